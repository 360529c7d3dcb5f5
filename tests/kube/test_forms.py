import msgspec

from lbipam.kube.forms import Service, forget_what_agents_ignore

ONE = {
    "metadata": {"name": "a", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {
        "type": "LoadBalancer",
        "loadBalancerClass": "io.cilium/bgp-control-plane",
        "selector": {"app": "shop"},
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1", "fd00::1"],
        "ports": [{"name": "http", "protocol": "UDP", "port": 80}],
        "ipFamilies": ["IPv6", "IPv4"],
        "ipFamilyPolicy": "PreferDualStack",
        "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Cluster",
        "sessionAffinity": "ClientIP",
    },
    "status": {"conditions": [{"type": "T", "status": "True", "reason": "because"}]},
}


def texts(service: Service) -> list[str | None]:
    """What a Service says that many others say too."""
    spec, (port,), (condition,) = service.spec, service.spec.ports, service.status.conditions
    return [
        service.metadata.namespace,
        service.metadata.creation_timestamp,
        spec.type,
        spec.load_balancer_class,
        port.name,
        port.protocol,
        *spec.ip_families,
        spec.ip_family_policy,
        spec.external_traffic_policy,
        spec.internal_traffic_policy,
        spec.session_affinity,
        condition.type,
        condition.status,
        condition.reason,
    ]


def test_what_many_objects_say_is_kept_once() -> None:
    one, other = (msgspec.json.decode(msgspec.json.encode(ONE), type=Service) for _ in range(2))
    assert texts(one) == [
        "shop",
        "2026-01-01T00:00:00Z",
        "LoadBalancer",
        "io.cilium/bgp-control-plane",
        "http",
        "UDP",
        "IPv6",
        "IPv4",
        "PreferDualStack",
        "Local",
        "Cluster",
        "ClientIP",
        "T",
        "True",
        "because",
    ]
    assert all(mine is its for mine, its in zip(texts(one), texts(other), strict=True))


def test_what_one_object_says_twice_is_kept_once() -> None:
    spec = msgspec.json.decode(msgspec.json.encode(ONE), type=Service).spec
    assert spec.cluster_ips == ("10.96.0.1", "fd00::1")
    assert spec.cluster_ip is spec.cluster_ips[0]


def test_a_copy_of_the_object_that_kubectl_left_in_it_is_not_kept() -> None:
    def kept(**annotations: str) -> dict[str, str] | None:
        said = {"metadata": {"name": "a", "annotations": annotations}}
        return msgspec.json.decode(msgspec.json.encode(said), type=Service).metadata.annotations

    copy = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    assert kept(**copy, b="c") == {"b": "c"}
    assert kept(**copy) is None
    assert kept(b="c") == {"b": "c"}


def test_an_agent_keeps_of_a_service_what_it_looks_at() -> None:
    one, other = (msgspec.json.decode(msgspec.json.encode(ONE), type=Service) for _ in range(2))
    forget_what_agents_ignore(one, carries_traffic=True)
    assert (one.spec.selector, one.status.conditions) == (None, ())
    assert one.spec.ports == other.spec.ports
    forget_what_agents_ignore(other, carries_traffic=False)
    assert other.spec.ports == ()
    assert other.spec.cluster_ips == ("10.96.0.1", "fd00::1")


def test_what_an_object_leaves_out_stays_out() -> None:
    bare = msgspec.json.decode(b'{"metadata": {"name": "a"}}', type=Service)
    assert (bare.metadata.creation_timestamp, bare.spec.ip_family_policy, bare.spec.ip_families) == (
        None,
        None,
        (),
    )
