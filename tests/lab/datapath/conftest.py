"""The lab, and a datapath on each of its nodes."""

from collections.abc import AsyncIterator, Iterator

import pytest

from lbipam.adapters.nft_library import NftDatapath
from tests.lab.datapath.conversation import pods_answering
from tests.lab.datapath.topology import SERVED_BLOCKS, Lab, why_no_lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/lab/datapath" in str(item.path):
            item.add_marker(pytest.mark.lab)


@pytest.fixture(scope="session")
def namespaces() -> Iterator[Lab]:
    missing = why_no_lab()
    if missing:
        pytest.skip(missing)
    lab = Lab()
    try:
        lab.build()
        yield lab
    finally:
        lab.remove()


@pytest.fixture
async def lab(namespaces: Lab) -> AsyncIterator[Lab]:
    """The pods answer; the router sends what is served to the first node."""
    for block in SERVED_BLOCKS:
        namespaces.route(block, "n1")
    async with pods_answering(namespaces):
        yield namespaces


@pytest.fixture
async def n1(lab: Lab) -> AsyncIterator[NftDatapath]:
    """The first node's datapath; its table goes with the test."""
    async for datapath in _on(lab, "n1"):
        yield datapath


@pytest.fixture
async def n2(lab: Lab) -> AsyncIterator[NftDatapath]:
    async for datapath in _on(lab, "n2"):
        yield datapath


async def _on(lab: Lab, node: str) -> AsyncIterator[NftDatapath]:
    datapath = NftDatapath()
    with lab.entered(node):
        # The first call starts the thread, which stays where it was started.
        await datapath.cleanup()
    try:
        yield datapath
    finally:
        await datapath.cleanup()
        await datapath.close()
