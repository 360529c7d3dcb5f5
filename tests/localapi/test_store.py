from hypothesis import given
from hypothesis import strategies as st

from lbipam.localapi.listing import Filter
from lbipam.localapi.selectors import LabelSelector, label_selector
from lbipam.localapi.store import HISTORY_LIMIT, Collection, Event, Key, Store, Stored

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "remove", "look"]),
        st.sampled_from("abc"),
        st.sampled_from(["red", "blue"]),
    ),
    max_size=30,
)


@given(STEPS, st.sampled_from([None, "red"]))
def test_a_list_and_its_watch_equal_a_later_list(
    steps: list[tuple[str, str, str]], color: str | None
) -> None:
    store = Store()
    collection = store.collection("", "things")
    chosen = Filter(labels=None if color is None else _has_color(color))
    seen = {stored.key: stored.version for stored in chosen.chosen(collection)}
    place = collection.end
    for step, name, label in [*steps, ("look", "", "")]:
        key = Key("ns", name)
        if step == "put":
            store.put(collection, key, {"metadata": {"name": name, "labels": {"color": label}}})
        elif step == "remove" and key in collection.objects:
            store.remove(collection, key)
        elif step == "look":
            events = collection.events_from(place)
            assert events is not None
            place += len(events)
            for event in events:
                _follow(seen, event, chosen)
            assert seen == {stored.key: stored.version for stored in chosen.chosen(collection)}


def _has_color(color: str) -> LabelSelector:
    return label_selector(f"color={color}")


def _follow(seen: dict[Key, int], event: Event, chosen: Filter) -> None:
    if event.now is not None and chosen.matches(event.now):
        seen[event.now.key] = event.version
    elif event.before is not None and chosen.matches(event.before):
        seen.pop(event.before.key)


def test_a_history_that_is_too_long_forgets_its_beginning() -> None:
    collection = Collection(0)
    stored = Stored(Key("", "a"), 1, {}, b"{}")
    place = collection.end
    for version in range(1, HISTORY_LIMIT * 2):
        collection.record(Event(version, stored, None))
    assert collection.events_from(place) is None
    recent = collection.events_from(collection.place_after(collection.oldest))
    assert recent is not None
    assert HISTORY_LIMIT <= len(recent) < HISTORY_LIMIT * 2
    assert recent[0].version == collection.oldest + 1
