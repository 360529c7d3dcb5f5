"""What a peer is told, against a naive model of a peer that listens."""

import gc
import weakref
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lbipam.core.bgp import messages
from lbipam.core.bgp.attributes import Context, Segment
from lbipam.core.bgp.codes import HEADER_LENGTH, Family, MessageType, SegmentType
from lbipam.core.bgp.nlri import Nlri
from lbipam.core.bgp.routes import NO_ROUTES, PLAIN, Gap, RouteAttributes, RouteSet, Voice

FOUR = Voice(context=Context(), local_asn=64512, family=Family.IPV4, next_hop=bytes((192, 0, 2, 1)))
SIX = Voice(context=Context(), local_asn=64512, family=Family.IPV6, next_hop=bytes(16))
FOUR_OVER_SIX = Voice(context=Context(), local_asn=64512, family=Family.IPV4, next_hop=bytes(16))
VOICES = {"IPv4": FOUR, "IPv6": SIX, "IPv4 over IPv6": FOUR_OVER_SIX}
MARKED = RouteAttributes(communities=frozenset({65535 << 16}))
SAID = (PLAIN, MARKED, RouteAttributes(large_communities=frozenset({(1, 2, 3)})))
TOO_MUCH = RouteAttributes(communities=frozenset(range(1100)))
"""Fits into an extended message only."""


def host(number: int, family: Family = Family.IPV4) -> Nlri:
    length = family.address_length
    return Nlri(bytes((length * 8,)) + number.to_bytes(length, "big"))


def many(count: int, family: Family = Family.IPV4) -> RouteSet:
    return RouteSet({host(number, family): PLAIN for number in range(count)})


def updates(gap: Gap, voice: Voice) -> list[messages.Update]:
    found = []
    while (update := gap.next_update(voice)) is not None:
        assert len(update) <= voice.maximum
        assert update[18] == MessageType.UPDATE
        found.append(messages.decode_update(update[HEADER_LENGTH:], voice.context))
    return found


def listen(table: dict[Nlri, RouteAttributes], update: messages.Update) -> None:
    """What a router makes of an UPDATE."""
    assert not update.faults
    said = RouteAttributes(
        communities=frozenset(update.attributes.communities),
        large_communities=frozenset(update.attributes.large_communities),
    )
    reach, unreach = update.attributes.reach, update.attributes.unreach
    for one in (*update.withdrawn, *(unreach.nlri if unreach else ())):
        del table[one]
    for one in (*update.nlri, *(reach.nlri if reach else ())):
        table[one] = said


@pytest.mark.parametrize("name", VOICES)
@pytest.mark.parametrize("maximum", [4096, 65535])
def test_messages_are_as_full_as_they_can_be(name: str, maximum: int) -> None:
    voice = Voice(
        context=VOICES[name].context,
        local_asn=64512,
        family=VOICES[name].family,
        next_hop=VOICES[name].next_hop,
        maximum=maximum,
    )
    gap = Gap()
    gap.want(many(10_000, voice.family))
    gap.start_over()
    lengths = []
    while (update := gap.next_update(voice)) is not None:
        lengths.append(len(update))
    slack = voice.family.address_length + 1
    assert all(maximum - slack < length <= maximum for length in lengths[:-1])
    gap.want(NO_ROUTES)
    lengths = []
    while (update := gap.next_update(voice)) is not None:
        lengths.append(len(update))
    assert all(maximum - slack < length <= maximum for length in lengths[:-1])
    assert gap.advertised == gap.pending == 0


@given(st.dictionaries(st.integers(0, 128), st.sampled_from(SAID), max_size=129))
def test_prefixes_of_all_lengths_arrive(lengths: Mapping[int, RouteAttributes]) -> None:
    wanted = {Nlri(bytes((bits,)) + bytes((bits + 7) // 8)): said for bits, said in lengths.items()}
    voice = Voice(context=Context(), local_asn=1, family=Family.IPV6, next_hop=bytes(16), maximum=140)
    gap, table = Gap(), dict[Nlri, RouteAttributes]()
    gap.want(RouteSet(wanted))
    gap.start_over()
    for update in updates(gap, voice):
        listen(table, update)
    assert table == wanted


@pytest.mark.parametrize("name", VOICES)
def test_what_leaves_no_room_for_a_route_is_said_in_longer_messages_only(name: str) -> None:
    voice = VOICES[name]
    gap, table = Gap(), dict[Nlri, RouteAttributes]()
    wanted = {host(1, voice.family): TOO_MUCH, host(2, voice.family): PLAIN}
    gap.want(RouteSet(wanted))
    for maximum, heard in ((4096, {host(2, voice.family): PLAIN}), (65535, wanted)):
        gap.start_over()
        table.clear()
        for update in updates(gap, replace(voice, maximum=maximum)):
            listen(table, update)
        assert (table, gap.refused) == (heard, len(wanted) - len(heard))


def test_as_many_communities_as_no_message_holds_are_survived() -> None:
    gap = Gap()
    gap.want(RouteSet({host(1): RouteAttributes(communities=frozenset(range(17_000)))}))
    gap.start_over()
    assert updates(gap, replace(FOUR, maximum=65535)) == []
    assert (gap.refused, gap.advertised, gap.pending) == (1, 0, 0)


def test_nothing_is_owed_before_there_is_a_session() -> None:
    gap = Gap()
    gap.want(many(5))
    assert (gap.pending, gap.next_update(FOUR)) == (0, None)
    gap.start_over()
    assert (gap.pending, gap.advertised) == (5, 0)


def test_a_change_that_is_taken_back_before_it_is_said_is_not_said() -> None:
    gap = Gap()
    gap.want(many(3))
    gap.start_over()
    updates(gap, FOUR)
    gap.want(many(4))
    gap.want(many(3))
    assert updates(gap, FOUR) == []
    gap.want(many(2))
    gap.want(RouteSet({**many(2).routes, host(2): MARKED}))
    (update,) = updates(gap, FOUR)
    assert (update.nlri, update.withdrawn) == ((host(2),), ())


def test_withdrawals_go_first() -> None:
    gap = Gap()
    gap.want(many(3))
    gap.start_over()
    updates(gap, FOUR)
    gap.want(RouteSet({host(7): PLAIN}))
    first, second = updates(gap, FOUR)
    assert (set(first.withdrawn), first.nlri) == ({host(0), host(1), host(2)}, ())
    assert second.nlri == (host(7),)


def test_a_peer_of_our_own_as_hears_a_preference_and_no_path() -> None:
    voice = Voice(context=Context(internal=True), local_asn=1, family=Family.IPV4, next_hop=FOUR.next_hop)
    gap = Gap()
    gap.want(RouteSet({host(1): PLAIN, host(2): RouteAttributes(local_preference=300)}))
    gap.start_over()
    first, second = updates(gap, voice)
    assert (first.attributes.as_path, first.attributes.local_preference) == ((), 100)
    assert second.attributes.local_preference == 300


def test_a_peer_of_another_as_hears_our_as_and_no_preference() -> None:
    gap = Gap()
    gap.want(RouteSet({host(1): RouteAttributes(local_preference=300)}))
    gap.start_over()
    (update,) = updates(gap, FOUR)
    assert update.attributes.as_path == (Segment(type=SegmentType.AS_SEQUENCE, asns=(64512,)),)
    assert update.attributes.local_preference is None


def test_a_peer_without_wide_asns_finds_our_as_beside_the_path() -> None:
    voice = Voice(
        context=Context(four_octet_asns=False),
        local_asn=4200000001,
        family=Family.IPV4,
        next_hop=FOUR.next_hop,
    )
    gap = Gap()
    gap.want(many(1))
    gap.start_over()
    (update,) = updates(gap, voice)
    assert update.attributes.as_path == (Segment(type=SegmentType.AS_SEQUENCE, asns=(23456,)),)
    assert update.attributes.as4_path == (Segment(type=SegmentType.AS_SEQUENCE, asns=(4200000001,)),)


def test_a_route_set_remembers_its_last_comparison_but_not_the_older_set() -> None:
    older, newer = many(3), many(5)
    changed = newer.changed_since(older)
    assert set(changed) == {host(3), host(4)}
    assert newer.changed_since(older) is changed
    assert newer.changed_since(newer) == ()
    gone = weakref.ref(older)
    del older
    gc.collect()
    assert gone() is None


class Conversation(RuleBasedStateMachine):
    """A gap is asked for messages now and then, while what is wanted changes."""

    def __init__(self) -> None:
        super().__init__()
        self.gap = Gap()
        self.wanted: Mapping[Nlri, RouteAttributes] = {}
        self.table: dict[Nlri, RouteAttributes] = {}
        self.heard: set[Nlri] = set()
        self.is_open = False

    @rule(
        wanted=st.dictionaries(st.integers(0, 30).map(host), st.sampled_from((*SAID, TOO_MUCH)), max_size=30)
    )
    def want(self, wanted: Mapping[Nlri, RouteAttributes]) -> None:
        self.wanted = wanted
        self.gap.want(RouteSet(wanted))

    @rule()
    def begin(self) -> None:
        self.gap.start_over()
        self.table.clear()
        self.is_open = True

    @precondition(lambda self: self.is_open)
    @rule()
    def ask_for_everything(self) -> None:
        self.gap.say_again()
        assert self.gap.pending >= len(self.wanted) - self.gap.refused

    @rule(maximum=st.integers(75, 120))
    def hear_one(self, maximum: int) -> None:
        voice = Voice(
            context=Context(), local_asn=1, family=Family.IPV4, next_hop=FOUR.next_hop, maximum=maximum
        )
        update = self.gap.next_update(voice)
        if update is not None:
            listen(self.table, messages.decode_update(update[HEADER_LENGTH:], voice.context))

    @precondition(lambda self: self.is_open)
    @rule()
    def hear_all(self) -> None:
        for update in updates(self.gap, FOUR):
            listen(self.table, update)
        assert self.table == {one: said for one, said in self.wanted.items() if said is not TOO_MUCH}
        assert self.gap.refused == len(self.wanted) - len(self.table)
        assert self.gap.pending == 0

    @invariant()
    def what_is_counted_is_what_the_peer_has(self) -> None:
        if self.is_open:
            assert self.gap.advertised == len(self.table)


TestConversation = Conversation.TestCase
