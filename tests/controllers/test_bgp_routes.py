"""Services become prefixes, by leave of adverts."""

from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.controllers.bgp_routes import PoolRanges, RouteTable, Surroundings
from lbipam.controllers.cache import Change
from lbipam.controllers.endpoints import EndpointIndex
from lbipam.controllers.host import NO_HOST, Host, Interface
from lbipam.core.ipam.addresses import parse_cidr
from lbipam.core.ipam.labels import EVERYTHING, Operator, Requirement, Selector
from lbipam.kube import bgp_adverts, forms
from lbipam.kube.kinds import Key
from tests.builders_bgp import World
from tests.builders_services import endpoint, endpoint_slice, service

LB, EXTERNAL, CLUSTER = (
    bgp_adverts.AddressType.LOAD_BALANCER,
    bgp_adverts.AddressType.EXTERNAL,
    bgp_adverts.AddressType.CLUSTER,
)


def advert(*types: bgp_adverts.AddressType, **more: Any) -> bgp_adverts.Advert:
    source = bgp_adverts.ServiceRoutes(
        types=frozenset(types or (LB,)),
        selector=more.get("selector", EVERYTHING),
        aggregation=more.get("aggregation", {}),
        pools=more.get("pools", EVERYTHING),
    )
    return bgp_adverts.Advert(source=source)


def label(key: str, value: str) -> Selector:
    return Selector((Requirement(key, Operator.IN, (value,)),))


class Table:
    """A route table of node n1, and the Services put into it."""

    def __init__(
        self,
        *adverts: bgp_adverts.Advert,
        without_endpoints: bool = True,
        pools: tuple[PoolRanges, ...] = (),
        node: forms.Node | None = None,
        host: Host = NO_HOST,
    ) -> None:
        self.index = EndpointIndex()
        self.table = RouteTable(self.index, node="n1", without_endpoints=without_endpoints)
        self.services: dict[Key, forms.Service] = {}
        self.slices: dict[str, forms.EndpointSlice] = {}
        self.around = Surroundings(adverts=adverts, pools=pools)
        self.table.surround(self.around, {})
        self.table.locate(node, host)

    def put(self, thing: forms.Service) -> bool:
        self.services[thing.metadata.key] = thing
        return self.table.update(thing.metadata.key, thing)

    def drop(self, name: str) -> bool:
        key = Key("default", name)
        del self.services[key]
        return self.table.update(key, None)

    def slice(self, of: str, *endpoints: dict[str, Any]) -> None:
        after = endpoint_slice(of, *endpoints)
        changed = Change(forms.ENDPOINT_SLICE, after.metadata.key, self.slices.get(of), after)
        self.slices[of] = after
        for key in self.index.observe(changed):
            self.table.update(key, self.services.get(key))

    def routes(self) -> dict[str, set[int]]:
        return {str(prefix): set(adverts) for prefix, adverts in self.table.routes.items()}


def test_an_address_in_the_status_is_a_host_route() -> None:
    table = Table(advert())
    assert table.put(service("web", "10.0.0.1", "fd00::1"))
    assert table.routes() == {"10.0.0.1/32": {0}, "fd00::1/128": {0}}


def test_a_service_that_loses_its_address_loses_its_route() -> None:
    table = Table(advert())
    table.put(service("web", "10.0.0.1"))
    assert table.put(service("web"))
    assert table.routes() == {}


def test_what_does_not_change_a_route_is_said_to_change_nothing() -> None:
    table = Table(advert())
    table.put(service("web", "10.0.0.1"))
    assert not table.put(service("web", "10.0.0.1", annotations={"a": "b"}))


def test_a_service_being_deleted_is_withdrawn() -> None:
    table = Table(advert())
    table.put(service("web", "10.0.0.1", deleting=True))
    assert table.routes() == {}


def test_the_class_counts_for_load_balancer_addresses_only() -> None:
    table = Table(advert(LB, EXTERNAL))
    table.put(service("ours", "10.0.0.1", loadBalancerClass="io.cilium/bgp-control-plane"))
    table.put(service("theirs", "10.0.0.2", loadBalancerClass="example.com/lb", externalIPs=["192.0.2.1"]))
    assert table.routes() == {"10.0.0.1/32": {0}, "192.0.2.1/32": {0}}


def test_a_service_of_another_type_has_no_load_balancer_address() -> None:
    table = Table(advert())
    table.put(service("web", "10.0.0.1", type="NodePort"))
    assert table.routes() == {}


def test_cluster_addresses_are_announced_once_and_headless_services_have_none() -> None:
    table = Table(advert(CLUSTER))
    table.put(service("web", clusterIP="10.96.0.1", clusterIPs=["10.96.0.1", "fd00:96::1"], type="ClusterIP"))
    table.put(service("none", clusterIP="None", clusterIPs=["None"], type="ClusterIP"))
    assert table.routes() == {"10.96.0.1/32": {0}, "fd00:96::1/128": {0}}


def test_the_selector_sees_labels_name_and_namespace() -> None:
    table = Table(
        advert(selector=label("tier", "web")), advert(selector=label("io.kubernetes.service.name", "api"))
    )
    table.put(service("web", "10.0.0.1", labels={"tier": "web"}))
    table.put(service("api", "10.0.0.2", labels={"io.kubernetes.service.name": "web"}))
    assert table.routes() == {"10.0.0.1/32": {0}, "10.0.0.2/32": {1}}


def test_the_pool_of_an_address_can_be_asked_for_by_name_and_by_label() -> None:
    blue = PoolRanges(name="blue", labels={"tier": "gold"}, ranges=(parse_cidr("10.0.0.0/24"),))
    red = PoolRanges(name="red", labels={}, ranges=(parse_cidr("10.0.1.0/24"),))
    table = Table(
        advert(selector=label("lbipam.dev/pool", "red")),
        advert(pools=label("tier", "gold")),
        pools=(blue, red),
    )
    table.put(service("web", "10.0.0.1", "10.0.1.1", "10.0.2.1"))
    assert table.routes() == {"10.0.1.1/32": {0}, "10.0.0.1/32": {1}}


def test_local_addresses_follow_the_endpoints_of_this_node() -> None:
    table = Table(advert())
    table.put(service("web", "10.0.0.1", externalTrafficPolicy="Local"))
    assert table.routes() == {}
    table.slice("web", endpoint(node="n2"))
    assert table.routes() == {}
    table.slice("web", endpoint(node="n1"))
    assert table.routes() == {"10.0.0.1/32": {0}}
    table.slice("web", endpoint(node="n1", terminating=True))
    assert table.routes() == {}


def test_the_internal_policy_counts_for_cluster_addresses() -> None:
    table = Table(advert(CLUSTER, LB))
    table.put(service("web", "10.0.0.1", clusterIP="10.96.0.1", internalTrafficPolicy="Local"))
    assert table.routes() == {"10.0.0.1/32": {0}}
    table.slice("web", endpoint(node="n1"))
    assert set(table.routes()) == {"10.0.0.1/32", "10.96.0.1/32"}


def test_without_endpoints_an_address_is_announced_unless_told_otherwise() -> None:
    always, only_served = Table(advert()), Table(advert(), without_endpoints=False)
    for table in (always, only_served):
        table.put(service("web", "10.0.0.1"))
    assert set(always.routes()) == {"10.0.0.1/32"}
    assert only_served.routes() == {}
    only_served.slice("web", endpoint(node="n2"))
    assert set(only_served.routes()) == {"10.0.0.1/32"}


def test_aggregation_widens_cluster_routes_and_leaves_local_ones() -> None:
    table = Table(advert(aggregation={4: 24, 6: 64}))
    table.put(service("a", "10.0.0.1", "fd00::1"))
    table.put(service("b", "10.0.0.2", externalTrafficPolicy="Local"))
    table.slice("b", endpoint(node="n1"))
    assert set(table.routes()) == {"10.0.0.0/24", "fd00::/64", "10.0.0.2/32"}


def test_a_prefix_stays_until_its_last_service_goes() -> None:
    table = Table(advert(aggregation={4: 24}))
    table.put(service("a", "10.0.0.1"))
    assert not table.put(service("b", "10.0.0.2"))
    assert not table.drop("a")
    assert table.drop("b")
    assert table.routes() == {}


def test_a_prefix_that_two_adverts_name_knows_both() -> None:
    table = Table(advert(), advert(LB, EXTERNAL))
    table.put(service("web", "10.0.0.1"))
    assert table.routes() == {"10.0.0.1/32": {0, 1}}


def test_malformed_addresses_are_passed_over() -> None:
    table = Table(advert(LB, EXTERNAL))
    table.put(service("web", "ten", "::ffff:10.0.0.1", "fe80::1%eth0", "10.0.0.1", externalIPs=["", "x"]))
    assert set(table.routes()) == {"10.0.0.1/32"}


def test_the_pod_prefixes_of_the_node_are_announced() -> None:
    node = World().put(forms.NODE, "n1", spec={"podCIDRs": ["10.244.1.0/24", "fd00:1::/64", "?"]}).after
    table = Table(bgp_adverts.Advert(source=bgp_adverts.PodRoutes()), node=node)
    assert set(table.routes()) == {"10.244.1.0/24", "fd00:1::/64"}
    assert not table.table.locate(node, NO_HOST)
    assert table.table.locate(None, NO_HOST)
    assert table.routes() == {}


def test_an_interface_gives_its_global_addresses_while_it_is_up() -> None:
    texts = ("192.0.2.9", "fe80::1", "127.0.0.1", "fd00::9", "::ffff:192.0.2.1", "224.0.0.1")
    addresses = tuple(ip_address(text) for text in texts)
    up = Host(interfaces=(Interface(name="lo1", up=True, addresses=addresses),))
    down = Host(interfaces=(Interface(name="lo1", up=False, addresses=addresses),))
    wanted = bgp_adverts.Advert(source=bgp_adverts.InterfaceRoutes(name="lo1"))
    assert set(Table(wanted, host=up).routes()) == {"192.0.2.9/32", "fd00::9/128"}
    assert Table(wanted, host=down).routes() == {}
    assert Table(wanted).routes() == {}


NAMES = st.sampled_from(["a", "b", "c"])
STEPS: st.SearchStrategy[tuple[str, str, list[str], str]] = st.one_of(
    st.tuples(
        st.just("put"),
        NAMES,
        st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.1.1", "fd00::1"]), unique=True),
        st.sampled_from(["Local", "Cluster"]),
    ),
    st.tuples(st.just("slice"), NAMES, st.lists(st.sampled_from(["n1", "n2"])), st.just("")),
    st.tuples(st.just("drop"), NAMES, st.just([]), st.just("")),
)


@given(steps=st.lists(STEPS, max_size=25))
@settings(max_examples=150, deadline=None)
def test_incremental_equals_rebuilt(steps: list[tuple[str, str, list[str], str]]) -> None:
    table = Table(advert(aggregation={4: 24}), advert(), without_endpoints=False)
    for word, name, items, policy in steps:
        match word:
            case "put":
                table.put(service(name, *items, externalTrafficPolicy=policy))
            case "slice":
                table.slice(name, *(endpoint(node=node) for node in items))
            case _ if Key("default", name) in table.services:
                table.drop(name)
    anew = RouteTable(table.index, node="n1", without_endpoints=False)
    anew.surround(table.around, table.services)
    assert dict(table.table.routes) == dict(anew.routes)
    assert table.table.shapes == anew.shapes
    assert table.table.covering == anew.covering


def test_prefixes_with_the_same_adverts_share_them() -> None:
    """With thousands of prefixes they would weigh more than the prefixes."""
    table = Table(advert(), advert(EXTERNAL))
    table.put(service("web", "10.0.0.1", "10.0.0.2"))
    table.put(service("other", "10.0.0.3", "10.0.0.1"))
    assert len({id(adverts) for adverts in table.table.routes.values()}) == 1


def test_routes_are_told_as_networks() -> None:
    table = Table(advert())
    table.put(service("web", "10.0.0.1"))
    assert list(table.table.routes) == [ip_network("10.0.0.1/32")]
