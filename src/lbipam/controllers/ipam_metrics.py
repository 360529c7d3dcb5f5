"""What do the pools and Services come to, as numbers?

Cilium's metrics under Cilium's names, so that its dashboards and alerts go on working, and our own for what
it does not count. This file serves nothing; it only counts.
"""

from collections import Counter
from collections.abc import Iterator

from lbipam.controllers.ipam import Ipam, Phase
from lbipam.controllers.ports import Sample


def samples(ipam: Ipam) -> Iterator[Sample]:
    """The gauges of LB IPAM at this moment."""
    pools = ipam.ledger.space.pools
    yield Sample(
        name="lbipam_leading",
        help="1 if this process decides and writes, 0 if it follows or starts.",
        value=float(ipam.phase is Phase.LEADING),
    )
    yield Sample(
        name="cilium_operator_lbipam_conflicting_pools",
        help="Pools that overlap others, or themselves, and give nothing out.",
        value=sum(space.overlap is not None for space in pools.values()),
    )
    yield Sample(
        name="cilium_operator_lbipam_services_matching",
        help="Services that are ours to serve.",
        value=len(ipam.managed),
    )
    yield Sample(
        name="cilium_operator_lbipam_services_unsatisfied",
        help="Services that do not have all they ask for.",
        value=len(ipam.unsatisfied),
    )
    for name, space in pools.items():
        usage, labels = space.usage(), {"pool": name}
        yield Sample(
            name="cilium_operator_lbipam_ips_available",
            help="Addresses of a pool that can still be given out.",
            value=float(usage.available),
            labels=labels,
        )
        yield Sample(
            name="cilium_operator_lbipam_ips_used",
            help="Addresses of a pool that are held, or first or last and set aside.",
            value=float(usage.used),
            labels=labels,
        )
        yield Sample(
            name="lbipam_ips_reserved",
            help="Addresses of a pool that are reserved and held by nobody.",
            value=float(usage.reserved),
            labels=labels,
        )
    for reason, count in sorted(Counter(ipam.unsatisfied.values()).items()):
        yield Sample(
            name="lbipam_services_waiting",
            help="Services that wait, by the reason of their condition.",
            value=count,
            labels={"reason": reason},
        )
