"""Fixtures that several folders share."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from lbipam.kube.crds import catalog
from tests import real_api as real
from tests import worlds

_REAL_API = pytest.StashKey[real.RealApi]()


@pytest.fixture(scope="session")
def real_api(request: pytest.FixtureRequest) -> Iterator[real.RealApi]:
    """A real API server, one for each worker; tests use namespaces and pools of their own in it."""
    if real.assets() is None:
        pytest.skip(real.WHY_NOT)
    with real.RealApi() as api:
        request.config.stash[_REAL_API] = api
        yield api
        del request.config.stash[_REAL_API]


def pytest_configure() -> None:
    """Have no event loop but those of pytest-asyncio: the one that Python 3.11 makes unasked is never closed."""
    asyncio.set_event_loop(None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Undo what the test before has left broken."""
    if "real_api" in getattr(item, "fixturenames", ()) and _REAL_API in item.config.stash:
        item.config.stash[_REAL_API].ensure_ready()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for the real API server carries its marker."""
    for item in items:
        if "real_api" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_api)


@pytest.fixture(scope="session")
def embedded_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[worlds.World]:
    """The embedded API, as `lbipam sandbox` serves it, without a controller."""
    folder = tmp_path_factory.mktemp("embedded")
    kubeconfig = folder / "kubeconfig"
    arguments = ["sandbox", "--no-controller", "--kubeconfig-out", str(kubeconfig)]
    process = worlds.Process(arguments, log=folder / "sandbox.log")
    try:
        process.says("Ctrl-C ends it")
        yield worlds.World("embedded", kubeconfig, folder)
    finally:
        process.stop()


@pytest.fixture(scope="session")
def real_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[worlds.World]:
    """A real API server of its own, with our pools and reservations defined, for controllers to run on."""
    if real.assets() is None:
        pytest.skip(real.WHY_NOT)
    with real.RealApi() as api:
        world = worlds.World("real", api.kubeconfig, tmp_path_factory.mktemp("real"))
        for definition in catalog.all_crds()[:2]:
            world.apply(json.dumps(definition))
            name = definition["metadata"]["name"]
            world.kubectl("wait", "--for=condition=established", f"crd/{name}", "--timeout=30s")
        yield world


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real_api)])
def world(request: pytest.FixtureRequest) -> Iterator[worlds.World]:
    """A cluster, the embedded and the real one in turn, with a namespace of the test's own."""
    found: worlds.World = request.getfixturevalue(f"{request.param}_cluster")
    with found.clean():
        yield found
