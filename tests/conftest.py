"""Fixtures that several folders share."""

from collections.abc import Iterator

import pytest

from tests import real_api as real

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


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Undo what the test before has left broken."""
    if "real_api" in getattr(item, "fixturenames", ()) and _REAL_API in item.config.stash:
        item.config.stash[_REAL_API].ensure_ready()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for the real API server carries its marker."""
    for item in items:
        if "real_api" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_api)
