"""Fixtures that several folders share."""

from collections.abc import Iterator

import pytest

from tests import real_api as real


@pytest.fixture(scope="session")
def real_api() -> Iterator[real.RealApi]:
    """A real API server, one for each worker; tests use namespaces and pools of their own in it."""
    if real.assets() is None:
        pytest.skip(real.WHY_NOT)
    with real.RealApi() as api:
        yield api
