import msgspec

from lbipam.kube.forms import Service

ONE = {
    "metadata": {"name": "a", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {
        "type": "LoadBalancer",
        "ports": [{"name": "http", "protocol": "UDP", "port": 80}],
        "ipFamilies": ["IPv6", "IPv4"],
        "ipFamilyPolicy": "PreferDualStack",
        "externalTrafficPolicy": "Local",
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
        port.name,
        port.protocol,
        *spec.ip_families,
        spec.ip_family_policy,
        spec.external_traffic_policy,
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
        "http",
        "UDP",
        "IPv6",
        "IPv4",
        "PreferDualStack",
        "Local",
        "ClientIP",
        "T",
        "True",
        "because",
    ]
    assert all(mine is its for mine, its in zip(texts(one), texts(other), strict=True))


def test_what_an_object_leaves_out_stays_out() -> None:
    bare = msgspec.json.decode(b'{"metadata": {"name": "a"}}', type=Service)
    assert (bare.metadata.creation_timestamp, bare.spec.ip_family_policy, bare.spec.ip_families) == (
        None,
        None,
        (),
    )
