"""What do tests of the adapters share? The two API servers that they must get along with."""

import ssl
from collections.abc import AsyncIterator

import pytest

from lbipam.adapters.kube_config import Connection, connect
from lbipam.localapi.server import LocalApi


@pytest.fixture(params=["local", pytest.param("real", marks=pytest.mark.real_api)])
async def connection(request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """The way to an API server: the embedded one and the real one in turn."""
    if request.param == "real":
        real = request.getfixturevalue("real_api")
        real.ensure_ready()
        yield await connect(str(real.kubeconfig))
        return
    async with LocalApi() as api:

        async def token(renew: bool) -> str | None:
            return api.token

        context = ssl.create_default_context(cadata=api.ca_pem)
        yield Connection(url=api.url, ssl=context, token=token)
