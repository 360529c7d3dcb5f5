"""What do address pools and reservations look like to the API server?

Fields, validation and columns of `CiliumLoadBalancerIPPool` are Cilium's, and both its versions take the
`spec.cidrs` of Cilium 1.13 beside `spec.blocks`. `IPReservation` is a kind of our own. This file does not
say what the fields do to a Service.
"""

from typing import Any

from lbipam.kube.crds.schema import (
    AGE,
    Column,
    Names,
    Schema,
    Version,
    array,
    boolean,
    conditions,
    definition,
    label_selector,
    record,
    text,
)

_ADDRESSES = r"[0-9A-Fa-f:.]+"


def pool() -> dict[str, Any]:
    """`CiliumLoadBalancerIPPool`: the addresses that Services may get."""
    columns = (
        Column(name="Disabled", type="boolean", path=".spec.disabled"),
        Column(
            name="Conflicting",
            type="string",
            path='.status.conditions[?(@.type=="cilium.io/PoolConflict")].status',
        ),
        Column(
            name="IPs Available",
            type="string",
            path='.status.conditions[?(@.type=="cilium.io/IPsAvailable")].message',
        ),
        AGE,
    )
    properties = {"spec": _pool_spec(), "status": record({"conditions": conditions()})}
    return definition(
        Names(
            group="cilium.io",
            kind="CiliumLoadBalancerIPPool",
            plural="ciliumloadbalancerippools",
            short=("ippools", "ippool", "lbippool", "lbippools"),
            categories=("cilium",),
        ),
        "A pool of addresses for Services of type LoadBalancer.",
        (
            Version(name="v2", properties=properties, columns=columns, status=True),
            Version(name="v2alpha1", properties=properties, columns=columns, status=True, deprecated=True),
        ),
    )


def _pool_spec() -> Schema:
    cidr = text("A prefix, IPv4 or IPv6; host bits are ignored.", form="cidr")
    block = record(
        {
            "cidr": cidr,
            "start": text("First address of a range; ignored beside cidr."),
            "stop": text("Last address of the range; absent: the range is the first address alone."),
        }
    )
    return record(
        {
            "serviceSelector": label_selector(
                "Services that may have addresses of the pool; absent: every Service."
            ),
            "allowFirstLastIPs": text(
                "Whether the first and last address of each cidr block may be given out; absent: Yes.",
                enum=("Yes", "No"),
            ),
            "blocks": array(block, "The addresses of the pool, as prefixes and ranges."),
            "cidrs": array(
                record({"cidr": cidr}, required=("cidr",)), "Older name of blocks; both are taken together."
            ),
            "disabled": boolean(
                "A disabled pool gives nothing out; what it gave out stays where it is.", default=False
            ),
        }
    )


def reservation() -> dict[str, Any]:
    """`IPReservation`: addresses kept for one Service, or from every Service."""
    service = record(
        {"namespace": text(length=(1, 63)), "name": text(length=(1, 63))},
        "The Service that may have the addresses; absent: none may.",
        required=("namespace", "name"),
    )
    spec = record(
        {
            "addresses": array(
                text(pattern=rf"^{_ADDRESSES}(/[0-9]{{1,3}}| ?- ?{_ADDRESSES})?$", length=(1, 100)),
                "Addresses, prefixes (10.0.0.0/28) and ranges (10.0.0.1-10.0.0.9).",
                size=(1, None),
            ),
            "serviceRef": service,
            "expiresAt": text("When the reservation ends by itself; absent: never.", form="date-time"),
            "reason": text("Why the addresses are kept, for whoever reads it.", length=(0, 1024)),
        },
        required=("addresses",),
    )
    status = record(
        {
            "holder": text("Services (namespace/name) that have addresses of the reservation."),
            "conditions": conditions(),
        }
    )
    return definition(
        Names(
            group="lbipam.dev",
            kind="IPReservation",
            plural="ipreservations",
            short=("ipres",),
            categories=("lbipam",),
        ),
        "Addresses that pools give to one Service only, or to none.",
        (
            Version(
                name="v1alpha1",
                properties={"spec": spec, "status": status},
                columns=(
                    Column(name="Addresses", type="string", path=".spec.addresses"),
                    Column(name="For Namespace", type="string", path=".spec.serviceRef.namespace"),
                    Column(name="For Service", type="string", path=".spec.serviceRef.name"),
                    Column(name="Until", type="string", path=".spec.expiresAt"),
                    Column(name="Reason", type="string", path=".spec.reason"),
                    Column(name="Held By", type="string", path=".status.holder"),
                    AGE,
                ),
                status=True,
            ),
        ),
    )
