"""What FRR 8.4.4, BIRD 2.0.12 and GoBGP 3.10.0 send: whole messages, as they came over a wire.

Each of them was configured to announce prefixes of both families with communities, large communities and a
metric, to withdraw some of them, to ask for a refresh, and to shut the session down with a message.
"""

from lbipam.core.bgp.codes import MessageType

FRR: tuple[tuple[MessageType, str], ...] = (
    (
        MessageType.OPEN,
        (
            "007901045ba00009c61200015c0206010400010001020601040002000102028000020202000202460002064104"
            "fa56ec0002020600020a450800010101000201010206490402766d00020c400ac0780001010000020100021047"
            "0e0001018000000000020180000000"
        ),
    ),
    (MessageType.KEEPALIVE, "001304"),
    (
        MessageType.UPDATE,
        "0039020000001c40010100500200060201fa56ec00400304c6120001800404000000000020c6336407",
    ),
    (
        MessageType.UPDATE,
        (
            "0066020000004f900e003600020120fd000018000000000000000000000001fe8000000000000008054efffe3a"
            "7549008020010db800020000000000000000000740010100500200060201fa56ec0080040400000000"
        ),
    ),
    (MessageType.UPDATE, "00170200000000"),
    (MessageType.UPDATE, "001d0200000006800f03000201"),
    (MessageType.UPDATE, "002f0200000018900f00140002018020010db8000200000000000000000007"),
    (MessageType.ROUTE_REFRESH, "00170500010001"),
    (MessageType.NOTIFICATION, "002f030602196d61696e74656e616e63652c206261636b206174206e6f6f6e"),
)
BIRD: tuple[tuple[MessageType, str], ...] = (
    (
        MessageType.OPEN,
        (
            "00430104fde80009c61200012602240104000100010104000200010200400a0078000101000002010041040000"
            "fde846004700"
        ),
    ),
    (MessageType.KEEPALIVE, "001304"),
    (MessageType.UPDATE, "0031020000001540010100400200400304c61200014005040000006420c6336407"),
    (
        MessageType.UPDATE,
        (
            "004d020000003240010100400200400304c612000180040400000032400504000000c8c00804fc000064c0200c"
            "fa56ec00000000010000000218cb0071"
        ),
    ),
    (MessageType.UPDATE, "00170200000000"),
    (
        MessageType.UPDATE,
        (
            "004c0200000035900e001c00020110fd000018000000000000000000000001003020010db80001400101004002"
            "0040050400000064c00804fc000064"
        ),
    ),
    (MessageType.UPDATE, "001d0200000006800f03000201"),
    (MessageType.UPDATE, "0025020000000e900f000a0002013020010db80001"),
    (MessageType.UPDATE, "002002000920c633640718cb00710000"),
    (MessageType.ROUTE_REFRESH, "00170500010001"),
    (MessageType.ROUTE_REFRESH, "00170500020001"),
    (MessageType.NOTIFICATION, "002f030602196d61696e74656e616e63652c206261636b206174206e6f6f6e"),
)
GOBGP: tuple[tuple[MessageType, str], ...] = (
    (
        MessageType.OPEN,
        (
            "004d0104fc00005ac612000130022e0200490402766d0001040001000101040002000141040000fc00400a0078"
            "00010100000201000506000100010002"
        ),
    ),
    (MessageType.KEEPALIVE, "001304"),
    (
        MessageType.UPDATE,
        (
            "004c02000000314001010240020602010000fc00400304c612000180040400000032c00804fc000064c0200c00"
            "00fc00000000010000000218cb0071"
        ),
    ),
    (MessageType.UPDATE, "00170200000000"),
    (
        MessageType.UPDATE,
        (
            "004a02000000334001010240020602010000fc00c00804ffffff01800e1c00020110fd00001800000000000000"
            "0000000001003020010db80001"
        ),
    ),
    (MessageType.UPDATE, "001d0200000006800f03000201"),
    (MessageType.UPDATE, "001b02000418cb00710000"),
    (MessageType.UPDATE, "0024020000000d800f0a0002013020010db80001"),
    (MessageType.NOTIFICATION, "0015030602"),
)
"""Without the marker of sixteen octets."""

CAPTURES = {
    **{f"FRR {number} {type_.name}": text for number, (type_, text) in enumerate(FRR)},
    **{f"BIRD {number} {type_.name}": text for number, (type_, text) in enumerate(BIRD)},
    **{f"GoBGP {number} {type_.name}": text for number, (type_, text) in enumerate(GOBGP)},
}
"""Every message, by who sent it."""
