import pytest

from lbipam.localapi import reviews


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("SelfSubjectAccessReview", "allowed"),
        ("SubjectAccessReview", "allowed"),
        ("SelfSubjectRulesReview", "resourceRules"),
        ("SelfSubjectReview", "userInfo"),
    ],
)
def test_whoever_asks_may_do_everything(kind: str, status: str) -> None:
    answer = reviews.reviewed("authorization.k8s.io", kind, {"spec": {"a": "b"}})
    assert (answer["kind"], answer["spec"]) == (kind, {"a": "b"})
    assert answer["status"][status]
