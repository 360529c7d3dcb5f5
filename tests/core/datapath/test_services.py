"""Which endpoints serve, and what load balancers are told."""

from lbipam.core.datapath.services import Service, ServicePort, collapsed, health_check, serving, serving_here
from tests.core.datapath.builders import blocks, endpoint

HERE, THERE = endpoint("10.1.0.2"), endpoint("10.1.1.2")
LEAVING = endpoint("10.1.0.3", ready=False, terminating=True)
STARTING = endpoint("10.1.0.4", ready=False, serving=False)


def chosen(*endpoints: object, publish_not_ready: bool = False) -> tuple[object, object]:
    port = ServicePort(port=80, endpoints=endpoints)  # type: ignore[arg-type]
    service = Service(namespace="a", name="b", ports=(port,), publish_not_ready=publish_not_ready)
    return serving(service, port, 4), serving_here(service, port, 4)


def test_ready_endpoints_come_before_all_others() -> None:
    assert chosen(LEAVING, STARTING, THERE, HERE) == ((HERE, THERE), (HERE,))


def test_leaving_endpoints_serve_where_there_is_no_other() -> None:
    assert chosen(LEAVING, STARTING, THERE) == ((THERE,), (LEAVING,))
    assert chosen(LEAVING, STARTING) == ((LEAVING,), (LEAVING,))


def test_starting_endpoints_serve_only_where_that_is_asked_for() -> None:
    assert chosen(STARTING) == ((), ())
    assert chosen(STARTING, publish_not_ready=True) == ((STARTING,), (STARTING,))


def test_families_are_served_apart() -> None:
    assert chosen(endpoint("fd00:1::2"), HERE) == ((HERE,), (HERE,))


def test_a_health_check_counts_the_pods_that_are_ready_here() -> None:
    web = ServicePort(name="web", port=80, endpoints=(HERE, THERE, LEAVING, STARTING))
    admin = ServicePort(name="admin", port=81, endpoints=(endpoint("10.1.0.2", 8081),))
    assert health_check(Service(namespace="a", name="b", ports=(web, admin))).local_endpoints == 1
    assert health_check(Service(namespace="a", name="b")).local_endpoints == 0
    both = ServicePort(name="web", port=80, endpoints=(HERE, endpoint("fd00:1::2"), THERE))
    assert health_check(Service(namespace="a", name="b", ports=(both,))).local_endpoints == 1


def test_blocks_collapse_by_family() -> None:
    assert collapsed(blocks("fd00::/65", "10.0.0.0/25", "10.0.0.128/25", "10.0.0.7/32")) == blocks(
        "10.0.0.0/24", "fd00::/65"
    )
