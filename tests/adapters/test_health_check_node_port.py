"""What load balancers hear on a Service's health check port."""

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from lbipam.adapters.health_check_node_port import HealthCheckNodePorts
from lbipam.core.datapath.services import HealthCheck


@pytest.fixture
async def ports() -> AsyncIterator[HealthCheckNodePorts]:
    served = HealthCheckNodePorts("127.0.0.1")
    yield served
    await served.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def web(count: int, name: str = "web") -> HealthCheck:
    return HealthCheck(namespace="shop", name=name, local_endpoints=count)


async def ask(port: int) -> tuple[int, str, object]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/healthz") as answer,
    ):
        return answer.status, answer.headers["X-Load-Balancing-Endpoint-Weight"], await answer.json()


async def test_each_service_answers_on_its_port_with_its_endpoints(ports: HealthCheckNodePorts) -> None:
    one, two = free_port(), free_port()
    assert await ports.serve({one: web(2), two: web(0, "api")}) == {}
    assert await ask(one) == (
        200,
        "2",
        {"service": {"namespace": "shop", "name": "web"}, "localEndpoints": 2},
    )
    assert await ask(two) == (
        503,
        "0",
        {"service": {"namespace": "shop", "name": "api"}, "localEndpoints": 0},
    )


async def test_the_answer_follows_the_endpoints(ports: HealthCheckNodePorts) -> None:
    port = free_port()
    await ports.serve({port: web(1)})
    await ports.serve({port: web(0)})
    assert (await ask(port))[0] == 503


async def test_a_port_that_is_not_wanted_any_more_is_closed(ports: HealthCheckNodePorts) -> None:
    port = free_port()
    await ports.serve({port: web(1)})
    await ports.serve({})
    with pytest.raises(aiohttp.ClientConnectionError):
        await ask(port)


async def test_a_port_that_another_program_has_is_told_and_tried_again(ports: HealthCheckNodePorts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = await ports.serve({port: web(1)})
        assert refused.keys() == {port}
    assert await ports.serve({port: web(1)}) == {}
    assert (await ask(port))[0] == 200
