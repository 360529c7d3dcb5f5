import pytest

from lbipam.localapi import builtins, routing
from lbipam.localapi.refusals import ApiError
from lbipam.localapi.resources import Registry, Rules

REGISTRY = Registry(builtins.resources(Rules(), lambda _new, _old: None))


@pytest.mark.parametrize(
    ("path", "plural", "namespace", "name", "subresource"),
    [
        ("/api/v1/services", "services", "", "", ""),
        ("/api/v1/namespaces/a/services", "services", "a", "", ""),
        ("/api/v1/namespaces/a/services/b", "services", "a", "b", ""),
        ("/api/v1/namespaces/a/services/b/status", "services", "a", "b", "status"),
        ("/api/v1/namespaces", "namespaces", "", "", ""),
        ("/api/v1/namespaces/a", "namespaces", "", "a", ""),
        ("/api/v1/namespaces/a/status", "namespaces", "", "a", "status"),
        ("/api/v1/nodes/n/status", "nodes", "", "n", "status"),
        ("/apis/coordination.k8s.io/v1/namespaces/a/leases/b", "leases", "a", "b", ""),
        ("/api/v1/namespaces/a/events/b%3Ac", "events", "a", "b:c", ""),
    ],
)
def test_paths(path: str, plural: str, namespace: str, name: str, subresource: str) -> None:
    target = routing.target_of(REGISTRY, path)
    assert isinstance(target, routing.Target)
    assert target.resource.plural == plural
    assert (target.namespace, target.name, target.subresource) == (namespace, name, subresource)


def test_reviews_are_answered_rather_than_stored() -> None:
    found = routing.target_of(REGISTRY, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
    assert found == routing.Review(group="authorization.k8s.io", kind="SelfSubjectAccessReview")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/odd",
        "/api/v1/odd",
        "/api/v2/services",
        "/apis/odd.example/v1/things",
        "/api/v1/services/b",
        "/api/v1/namespaces/a/nodes",
        "/api/v1/namespaces/a/services/b/scale",
        "/api/v1/namespaces/a/configmaps/b/status",
        "/api/v1/namespaces/a/services/b/status/more",
    ],
)
def test_other_paths_lead_nowhere(path: str) -> None:
    with pytest.raises(ApiError) as refused:
        routing.target_of(REGISTRY, path)
    assert refused.value.code == 404
