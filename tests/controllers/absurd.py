"""Manifests that every schema accepts and nobody should write.

Objects as JSON, for Hypothesis: what the API server takes, however little sense it makes. Two pools' worth of
quiet is left for bystanders: nothing here is older than their pool.
"""

from typing import Any

from hypothesis import strategies as st

from lbipam.kube import forms
from lbipam.kube.ipam import IP_POOL, IP_RESERVATION
from lbipam.kube.kinds import Kind

Absurd = tuple[Kind, dict[str, Any]]

_BIG = "9" * 400
_numbers = st.sampled_from(
    [
        "0",
        "-1",
        "1",
        "5",
        "-" + _BIG,
        _BIG,
        "9" * 5000,
        "1e9",
        "0x10",
        " 7 ",
        "٣",
        "1_0",
        "",
        "∞",
        "nan",
        "1.5",
    ]
)
_durations = st.sampled_from(
    [
        "1s",
        "0",
        "-1s",
        f"{_BIG}h",
        "9999999999h",
        "1.5.5s",
        "1s1",
        ".s",
        "h",
        "1ns",
        "",
        " 2s ",
        "1h\x00",
        "∞s",
    ]
)
_texts = st.sampled_from(
    [
        "",
        " ",
        ",",
        ",,,",
        "a",
        "*",
        "x" * 100_000,
        "💥",
        "\x00",
        "\n\t",
        "a,b,*",
        "../..",
        "'; --",
        "\u202e",
        "é" * 1000,
    ]
) | st.text(max_size=8)
_address = st.sampled_from(
    [
        "10.0.0.1",
        "10.0.0.9",
        "10.9.0.0",
        "10.9.0.1",
        "fd00::1",
        "fd00::ffff",
        "::",
        "::1",
        "0.0.0.0",
        "255.255.255.255",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "::ffff:10.0.0.1",
        "fe80::1%eth0",
        "10.0.0.256",
        "010.0.0.1",
        "167772161",
        "10.0.0.1/24",
        "",
        " ",
        "💥",
        "x" * 10_000,
    ]
)
_many = st.sampled_from(
    [
        ",".join(f"10.{high}.{low}.1" for high in range(12) for low in range(256)),
        ",".join(["10.0.0.1"] * 3000),
        ",".join(f"fd00::{number:x}" for number in range(3000)),
        ",".join(["no address"] * 3000),
    ]
)
_addresses = st.lists(_address, max_size=5).map(",".join) | _many
_cidr = st.sampled_from(
    [
        "0.0.0.0/0",
        "::/0",
        "::/1",
        "8000::/1",
        "10.0.0.0/8",
        "10.0.0.0/24",
        "10.0.0.0/30",
        "10.0.0.3/32",
        "10.9.0.0/30",
        "10.9.0.3/31",
        "fd00::/64",
        "fd00::/126",
        "::ffff:0:0/96",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0",
        "10.0.0.0/255.0.0.0",
        "/",
        "💥/8",
    ]
)
_sound = st.sampled_from(
    [
        {"cidr": "10.0.0.0/24"},
        {"cidr": "10.0.0.0/30"},
        {"start": "10.0.0.9"},
        {"cidr": "fd00::/126"},
        {"start": "10.1.0.1", "stop": "10.1.0.3"},
        {"cidr": "8000::/1"},
    ]
)
_block = st.one_of(
    _sound,
    _sound,
    st.fixed_dictionaries({}, optional={"cidr": _cidr, "start": _address, "stop": _address}),
    st.fixed_dictionaries({"start": _address, "stop": _address}),
    st.fixed_dictionaries({"cidr": _cidr}),
)
_blocks = (
    st.lists(_block, min_size=1, max_size=5)
    | st.lists(_sound, min_size=1, max_size=2)
    | st.lists(_block, min_size=1, max_size=2).map(lambda some: some * 500)
)
_label = st.sampled_from(["", "color", "io.kubernetes.service.name", "a/b/c", "💥", "x" * 5000])
_selector = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(_label, st.sampled_from(["", "red", "quiet"]), max_size=3),
        "matchExpressions": st.lists(
            st.fixed_dictionaries(
                {"key": _label, "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"])},
                optional={"values": st.lists(_texts, max_size=3)},
            ),
            max_size=4,
        ),
    },
)
_names = st.sampled_from(["a", "b", "c"])


def _metadata(
    annotations: st.SearchStrategy[dict[str, str]], **more: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"name": _names, "creationTimestamp": st.just("2026-06-01T00:00:00Z"), **more},
        optional={
            "annotations": annotations,
            "labels": st.dictionaries(
                st.sampled_from(["color", "io.kubernetes.service.namespace", "lbipam.dev/released-by"]),
                st.sampled_from(["", "red", "quiet"]),
                max_size=3,
            ),
        },
    )


_of_services = st.fixed_dictionaries(
    {},
    optional={
        "lbipam.cilium.io/ips": _addresses,
        "io.cilium/lb-ipam-ips": _addresses,
        "lbipam.cilium.io/sharing-key": _texts,
        "lbipam.cilium.io/sharing-cross-namespace": _texts,
        "lbipam.cilium.io/sharing-permit-different-pods": _texts,
        "lbipam.dev/pool": _texts | st.sampled_from(["a", "a,b,a", "quiet"]),
    },
)
_port = st.fixed_dictionaries(
    {"port": st.integers(1, 65535) | st.sampled_from([80])},
    optional={"protocol": st.sampled_from(["TCP", "UDP", "SCTP"])},
)
_ports = st.lists(_port, min_size=1, max_size=3).map(
    lambda ports: [{"name": f"p{number}", **port} for number, port in enumerate(ports)]
)
_spec_of_services = st.fixed_dictionaries(
    {"type": st.sampled_from(["LoadBalancer"] * 9 + ["ClusterIP"]), "ports": _ports},
    optional={
        "ipFamilies": st.lists(st.sampled_from(["IPv4", "IPv6"]), max_size=2, unique=True),
        "ipFamilyPolicy": st.sampled_from(["SingleStack", "PreferDualStack", "RequireDualStack"]),
        "loadBalancerIP": _address,
        "loadBalancerClass": st.sampled_from(["io.cilium/l2-announcer"] * 3 + ["io.cilium/node", "a/b"]),
        "externalTrafficPolicy": st.sampled_from(["Local", "Cluster"]),
        "selector": st.dictionaries(_label, st.just("x"), max_size=2),
    },
)
services: st.SearchStrategy[Absurd] = st.tuples(
    st.just(forms.SERVICE),
    st.fixed_dictionaries(
        {
            "metadata": _metadata(_of_services, namespace=st.sampled_from(["default", "other"])),
            "spec": _spec_of_services,
        },
    ),
)
_of_pools = st.fixed_dictionaries(
    {},
    optional={
        "lbipam.dev/priority": _numbers,
        "lbipam.dev/auto-assign": _texts | st.sampled_from(["true", "false"]),
        "lbipam.dev/hold-released-for": _durations,
    },
)
_spec_of_pools = st.fixed_dictionaries(
    {"blocks": _blocks},
    optional={
        "serviceSelector": _selector | st.just({}),
        "allowFirstLastIPs": st.sampled_from(["Yes", "No"]),
        "disabled": st.sampled_from([False, False, False, True]),
    },
)
pools: st.SearchStrategy[Absurd] = st.tuples(
    st.just(IP_POOL), st.fixed_dictionaries({"metadata": _metadata(_of_pools), "spec": _spec_of_pools})
)
_spec_of_reservations = st.fixed_dictionaries(
    {"addresses": st.lists(_address | _cidr | st.just("10.0.0.9-10.0.0.1"), max_size=5)},
    optional={
        "serviceRef": st.fixed_dictionaries(
            {"namespace": st.sampled_from(["default", "quiet", "none"]), "name": _names | st.just("s0")}
        ),
        "expiresAt": st.sampled_from(
            [
                "0001-01-01T00:00:00Z",
                "9999-12-31T23:59:59-23:59",
                "9999-12-31T23:59:59Z",
                "1970-01-01T00:00:00+14:00",
                "2026-02-30T00:00:00Z",
            ]
        ),
        "reason": _texts,
    },
)
reservations: st.SearchStrategy[Absurd] = st.tuples(
    st.just(IP_RESERVATION),
    st.fixed_dictionaries({"metadata": _metadata(st.just({})), "spec": _spec_of_reservations}),
)
namespaces: st.SearchStrategy[Absurd] = st.tuples(
    st.just(forms.NAMESPACE),
    st.fixed_dictionaries(
        {
            "metadata": st.fixed_dictionaries(
                {"name": st.sampled_from(["default", "other"])},
                optional={"annotations": st.fixed_dictionaries({"lbipam.dev/max-addresses": _numbers})},
            )
        }
    ),
)
anything: st.SearchStrategy[Absurd] = st.one_of(services, services, pools, pools, reservations, namespaces)
