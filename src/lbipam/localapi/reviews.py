"""May the client do this, and who is it?

There is one user, who may do everything; the reviews say so in the words of `authorization.k8s.io` and
`authentication.k8s.io`.
"""

from typing import Any

USER = {"username": "lbipam-admin", "groups": ["system:masters", "system:authenticated"]}

_EVERYTHING = {
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "incomplete": False,
}


def reviewed(group: str, kind: str, review: dict[str, Any]) -> dict[str, Any]:
    """The review with its answer."""
    status: dict[str, Any]
    match kind:
        case "SelfSubjectReview":
            status = {"userInfo": USER}
        case "SelfSubjectRulesReview":
            status = _EVERYTHING
        case _:
            status = {"allowed": True, "reason": "there is one user, who may do everything"}
    return {
        "kind": kind,
        "apiVersion": f"{group}/v1",
        "metadata": {"creationTimestamp": None},
        "spec": review.get("spec", {}),
        "status": status,
    }
