"""A million mangled inputs, and not one that is not survived.

Messages of real routers are mutated and fed to the decoders and to whole sessions: whatever comes out is a
message or a `ProtocolError`. The seed is printed on failure; `LBIPAM_FUZZ_SEED` repeats a run and
`LBIPAM_FUZZ_INPUTS` changes its length.
"""

import os
import random
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address

import pytest

from lbipam.core.bgp import messages
from lbipam.core.bgp.attributes import Context
from lbipam.core.bgp.codes import HEADER_LENGTH, MARKER, MessageType
from lbipam.core.bgp.errors import ProtocolError
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.messages import KEEPALIVE, Splitter
from lbipam.core.bgp.peers import Identity, LocalAddresses, Peer
from lbipam.core.bgp.session import Session
from tests.core.bgp.captures import BIRD, CAPTURES, FRR, GOBGP

pytestmark = pytest.mark.slow

INPUTS = int(os.environ.get("LBIPAM_FUZZ_INPUTS", "1000000"))
SEED = int(os.environ.get("LBIPAM_FUZZ_SEED", random.SystemRandom().randrange(2**32)))
CONTEXTS = tuple(
    Context(four_octet_asns=wide, internal=internal) for wide in (False, True) for internal in (False, True)
)
INTERESTING = bytes((0, 1, 2, 4, 8, 16, 32, 64, 127, 128, 129, 192, 254, 255))


def mangle(dice: random.Random, data: bytes) -> bytes:
    """Change, insert, remove or repeat some octets."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        at = int(dice.random() * (len(out) + 1))
        kind = dice.random()
        if kind < 0.5 and at < len(out):
            out[at] = INTERESTING[int(dice.random() * len(INTERESTING))]
        elif kind < 0.7 and at < len(out):
            out[at] ^= 1 << int(dice.random() * 8)
        elif kind < 0.8:
            out[at:at] = out[: int(dice.random() * 8)]
        elif kind < 0.9:
            del out[at : at + int(dice.random() * 8)]
        else:
            del out[at:]
    return bytes(out)


def bodies(dice: random.Random, type_: MessageType, count: int) -> Iterator[bytes]:
    """Mangled bodies of one type; what they become is mangled further now and then."""
    corpus = [bytes.fromhex(text)[3:] for kind, text in (*FRR, *BIRD, *GOBGP) if kind is type_]
    for _ in range(count):
        body = mangle(dice, corpus[int(dice.random() * len(corpus))])
        if len(body) < 200 and dice.random() < 0.001:
            corpus.append(body)
        yield body


@pytest.mark.parametrize(
    ("type_", "share"),
    [(MessageType.OPEN, 0.2), (MessageType.UPDATE, 0.5), (MessageType.ROUTE_REFRESH, 0.05)],
)
def test_any_body_is_a_message_or_a_protocol_error(type_: MessageType, share: float) -> None:
    dice = random.Random(SEED)
    for number, body in enumerate(bodies(dice, type_, int(INPUTS * share))):
        context = CONTEXTS[number & 3]
        try:
            message = messages.decode(type_, body, context)
        except ProtocolError:
            continue
        except Exception as crash:
            raise AssertionError(f"seed {SEED}, input {number}: {body.hex()}") from crash
        if number % 16 == 0 and not isinstance(message, messages.Open):
            again = messages.encode(message, context)[HEADER_LENGTH:]
            messages.decode(type_, again, context)


def test_any_stream_is_cut_or_refused() -> None:
    dice = random.Random(SEED)
    whole = b"".join(MARKER + bytes.fromhex(text) for text in CAPTURES.values())
    for number in range(int(INPUTS * 0.05)):
        at = dice.randrange(len(whole))
        data = mangle(dice, whole[at - at % 7 : at + 90])
        splitter = Splitter()
        try:
            for piece in (data[:40], data[40:]):
                splitter.feed(piece)
                list(splitter)
        except ProtocolError:
            continue
        except Exception as crash:
            raise AssertionError(f"seed {SEED}, input {number}: {data.hex()}") from crash


def test_a_session_survives_whatever_comes_at_whatever_time() -> None:
    dice = random.Random(SEED)
    corpus = [MARKER + bytes.fromhex(text) for text in CAPTURES.values()]
    peer = Peer(address=ip_address("198.18.0.1"), restart_seconds=120)
    ours = Identity(asn=65000, router_id=IPv4Address("198.18.0.2"))
    local = LocalAddresses(address=ours.router_id, ipv4=ours.router_id)
    opening = MARKER + bytes.fromhex(BIRD[0][1]) + messages.encode(KEEPALIVE, Context())
    session, now = (
        Session(peer, ours, is_incoming=False, restarted=True, dice=lambda: 1.0),
        0.0,
    )
    for number in range(int(INPUTS * 0.2)):
        now += dice.random()
        if session.state is State.IDLE:
            session = Session(peer, ours, is_incoming=False, restarted=True, dice=lambda: 1.0)
            session.start(now)
            session.connected(local, now)
            if number & 1:
                session.receive(opening, now)
        data = corpus[int(dice.random() * len(corpus))]
        data = mangle(dice, data) if dice.random() < 0.7 else data
        try:
            session.receive(data, now)
            session.tick(now)
            session.take_output()
        except Exception as crash:
            raise AssertionError(f"seed {SEED}, input {number}: {data.hex()}") from crash
        assert session.state in State
