"""What does `CiliumL2AnnouncementPolicy` look like to the API server?

This file does not say who announces what.
"""

from typing import Any

from lbipam.kube.crds.schema import (
    Names,
    Version,
    array,
    boolean,
    conditions,
    definition,
    label_selector,
    record,
    text,
)


def announcement_policy() -> dict[str, Any]:
    """`CiliumL2AnnouncementPolicy`: which nodes answer on their LAN for which Services."""
    spec = record(
        {
            "nodeSelector": label_selector("Nodes that may answer; absent: all."),
            "serviceSelector": label_selector("Services answered for; absent: all."),
            "loadBalancerIPs": boolean("Whether to answer for addresses in the status of Services."),
            "externalIPs": boolean("Whether to answer for spec.externalIPs of Services."),
            "interfaces": array(
                text(), "Regular expressions, not anchored, of interfaces to answer on; absent: all."
            ),
        }
    )
    return definition(
        Names(
            group="cilium.io",
            kind="CiliumL2AnnouncementPolicy",
            plural="ciliuml2announcementpolicies",
            short=("l2announcement",),
            categories=("cilium",),
        ),
        "Which nodes answer on their LAN for the addresses of which Services.",
        (
            Version(
                name="v2alpha1",
                properties={"spec": spec, "status": record({"conditions": conditions()})},
                required=(),
                status=True,
            ),
        ),
    )
