"""Which kinds must a cluster know before lbipam can work there?

The CustomResourceDefinitions in the order in which they are printed. This file describes none of them.
"""

from typing import Any

from lbipam.kube.crds import bgp, bgp_legacy, ipam, l2


def all_crds() -> tuple[dict[str, Any], ...]:
    """Every CustomResourceDefinition, as plain JSON values; each call makes new ones."""
    return (
        ipam.pool(),
        ipam.reservation(),
        bgp.cluster_config(),
        bgp.peer_config(),
        bgp.advertisement(),
        bgp.node_config(),
        bgp.node_override(),
        bgp_legacy.peering_policy(),
        l2.announcement_policy(),
    )


def without_rules(crd: dict[str, Any]) -> dict[str, Any]:
    """A copy without CEL rules, for clusters before Kubernetes 1.25, where kubectl refuses the field.

    What the rules forbid is refused by the translation of the objects as well.
    """
    return {key: _plain(value) for key, value in crd.items()}


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain(inner) for key, inner in value.items() if key != "x-kubernetes-validations"}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return value
