"""A node gives its routes up in two steps."""

import pytest

from lbipam.controllers.bgp_drain import Phase, carried, phase
from lbipam.core.bgp.codes import GRACEFUL_SHUTDOWN
from lbipam.core.bgp.routes import RouteAttributes

ROUTE = RouteAttributes(communities=frozenset({7}), local_preference=200)


@pytest.mark.parametrize(
    ("since", "expected"),
    [(None, Phase.SERVING), (0.0, Phase.LEAVING), (9.9, Phase.LEAVING), (10.0, Phase.GONE)],
)
def test_routes_leave_some_time_after_the_drain_began(since: float | None, expected: Phase) -> None:
    assert phase(since, 10.0) is expected


def test_without_time_to_leave_they_go_at_once() -> None:
    assert phase(0.0, 0.0) is Phase.GONE


def test_leaving_routes_carry_graceful_shutdown_and_the_lowest_preference() -> None:
    assert carried(ROUTE, Phase.LEAVING) == RouteAttributes(
        communities=frozenset({7, GRACEFUL_SHUTDOWN}), local_preference=0
    )


def test_serving_routes_are_as_they_are_and_gone_ones_are_not() -> None:
    assert carried(ROUTE, Phase.SERVING) is ROUTE
    assert carried(ROUTE, Phase.GONE) is None
