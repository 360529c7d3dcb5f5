"""The index of endpoints follows the slices."""

from lbipam.controllers.cache import Change
from lbipam.controllers.endpoints import EndpointIndex
from lbipam.kube import forms
from lbipam.kube.kinds import Key
from tests.builders_services import endpoint, endpoint_slice

WEB = Key("default", "web")


def change(before: forms.EndpointSlice | None, after: forms.EndpointSlice | None) -> Change:
    known = after or before
    assert known is not None
    return Change(forms.ENDPOINT_SLICE, known.metadata.key, before, after)


def test_a_service_has_the_endpoints_of_all_its_slices() -> None:
    index = EndpointIndex()
    first = endpoint_slice("web", endpoint("10.1.0.1", "n1"), name="a")
    second = endpoint_slice("web", endpoint("10.1.0.2", "n2"), name="b")
    assert index.observe(change(None, first)) == {WEB}
    index.observe(change(None, second))
    assert index.ready_nodes(WEB) == {"n1", "n2"}
    index.observe(change(first, None))
    assert index.ready_nodes(WEB) == {"n2"}
    index.observe(change(second, None))
    assert index.slices(WEB) == {}


def test_an_endpoint_about_to_end_is_not_ready() -> None:
    index = EndpointIndex()
    index.observe(change(None, endpoint_slice("web", endpoint(node="n1", terminating=True))))
    assert not index.has_ready(WEB)
    assert not index.has_ready(WEB, node="n1")


def test_a_node_is_asked_for_by_name() -> None:
    index = EndpointIndex()
    index.observe(change(None, endpoint_slice("web", endpoint(node="n1"))))
    assert index.has_ready(WEB, node="n1")
    assert not index.has_ready(WEB, node="n2")


def test_a_slice_that_moves_to_another_service_concerns_both() -> None:
    index = EndpointIndex()
    before = endpoint_slice("web", endpoint(), name="a")
    after = endpoint_slice("api", endpoint(), name="a")
    index.observe(change(None, before))
    assert index.observe(change(before, after)) == {WEB, Key("default", "api")}
    assert not index.has_ready(WEB)


def test_a_slice_of_no_service_concerns_nobody() -> None:
    index = EndpointIndex()
    lone = endpoint_slice("", endpoint(), name="a")
    assert index.observe(change(None, lone)) == frozenset()
