from lbipam.localapi.declarations import _lines, declared


def test_every_declared_type_can_be_read() -> None:
    for name in _lines():
        assert declared(name).name == name


def test_lists_merge_as_declared() -> None:
    spec = declared("core.v1.Service").properties["spec"]
    ports = spec.properties["ports"]
    assert (ports.list_type, ports.list_keys, ports.merge_key) == ("map", ("port", "protocol"), "port")
    assert ports.item().properties["protocol"].default == "TCP"
    assert spec.properties["clusterIPs"].list_type == "atomic"
    assert spec.properties["selector"].is_atomic
    metadata = declared("meta.v1.ObjectMeta").properties
    assert (metadata["finalizers"].list_type, metadata["finalizers"].merges_values) == ("set", True)
    assert metadata["ownerReferences"].list_keys == ("uid",)
    assert declared("core.v1.ServiceStatus").properties["conditions"].list_keys == ("type",)
    assert declared("core.v1.LoadBalancerStatus").properties["ingress"].list_type == "atomic"
