"""What the cache knows never grows older."""

import pytest

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ports import Deleted, Listed, Malformed, Missing, Synced, Upserted
from lbipam.kube import forms
from lbipam.kube.kinds import Key

KIND = forms.NAMESPACE
KEY = Key("", "n")


def namespace(version: str, uid: str = "u") -> forms.Namespace:
    return forms.Namespace(metadata=forms.Metadata(name="n", uid=uid, resource_version=version))


def seen(version: str) -> Upserted:
    return Upserted(kind=KIND, object=namespace(version))


def test_an_object_is_known_from_its_first_event_to_its_deletion() -> None:
    cache = Cache()
    assert cache.objects(KIND) == {}
    assert cache.store(seen("1")) == Change(KIND, KEY, None, namespace("1"))
    assert cache.objects(KIND) == {KEY: namespace("1")}
    assert cache.store(seen("2")) == Change(KIND, KEY, namespace("1"), namespace("2"))
    assert cache.store(Deleted(kind=KIND, key=KEY)) == Change(KIND, KEY, namespace("2"), None)
    assert cache.objects(KIND) == {}
    assert cache.store(Deleted(kind=KIND, key=KEY)) is None


@pytest.mark.parametrize("version", ["9", "10"])
def test_what_our_own_write_returned_is_not_undone_by_a_late_event(version: str) -> None:
    cache = Cache()
    cache.store(seen("10"))
    assert cache.store(seen(version)) is None
    assert cache.objects(KIND) == {KEY: namespace("10")}


def test_another_object_of_the_same_name_counts_whatever_its_version() -> None:
    cache = Cache()
    cache.store(seen("10"))
    other = namespace("9", uid="other")
    assert cache.store(Upserted(kind=KIND, object=other)) == Change(KIND, KEY, namespace("10"), other)


@pytest.mark.parametrize("as_of", ["10", "2000", ""])
def test_what_a_list_tells_counts_if_it_is_as_new_as_all_we_know_or_versions_begin_anew(as_of: str) -> None:
    cache = Cache()
    cache.store(seen("10"))
    listed = Listed(kind=KIND, object=namespace("4"), as_of=as_of)
    assert cache.store(listed) == Change(KIND, KEY, namespace("10"), namespace("4"))
    assert cache.store(listed) is None
    assert cache.store(seen("5")) == Change(KIND, KEY, namespace("4"), namespace("5"))


def test_what_our_own_write_returned_is_not_undone_by_a_list_that_was_under_way() -> None:
    cache = Cache()
    cache.store(seen("10"))
    assert cache.store(Listed(kind=KIND, object=namespace("4"), as_of="9")) is None
    assert cache.objects(KIND) == {KEY: namespace("10")}


@pytest.mark.parametrize(("known", "new"), [("9", "10"), ("abc", "abb"), ("10", "x"), ("x", "")])
def test_versions_are_numbers_and_anything_else_is_taken_as_it_comes(known: str, new: str) -> None:
    cache = Cache()
    cache.store(seen(known))
    assert cache.store(seen(new)) == Change(KIND, KEY, namespace(known), namespace(new))


def test_a_kind_has_synced_once_it_is_told_or_the_server_does_not_know_it() -> None:
    cache = Cache()
    assert not cache.has_synced(KIND)
    assert cache.store(Synced(kind=KIND)) is None
    assert cache.has_synced(KIND)
    assert not cache.has_synced(KIND, forms.SERVICE)
    assert cache.store(Missing(kind=forms.SERVICE)) is None
    assert cache.has_synced(KIND, forms.SERVICE)


def test_an_object_that_cannot_be_read_stays_as_it_was_last_readable() -> None:
    cache = Cache()
    cache.store(seen("1"))
    assert cache.store(Malformed(kind=KIND, key=KEY, problem="no JSON")) is None
    assert cache.objects(KIND) == {KEY: namespace("1")}
