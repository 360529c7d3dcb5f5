from hypothesis import given
from hypothesis import strategies as st

from lbipam.localapi.allocators import AddressAllocator, PortAllocator


def test_addresses_are_given_once_and_again_when_released() -> None:
    allocator = AddressAllocator("10.0.0.0/26")
    given_out = []
    for _ in range(62):
        address = allocator.free()
        assert allocator.why_not(address) == ""
        allocator.take(address)
        given_out.append(address)
    assert len(set(given_out)) == 62
    assert not {"10.0.0.0", "10.0.0.63"} & set(given_out)
    assert allocator.why_not("10.0.0.9") == "provided IP is already allocated"
    allocator.release("10.0.0.9")
    assert allocator.free() == "10.0.0.9"


def test_those_who_name_an_address_have_a_band_of_their_own() -> None:
    allocator = AddressAllocator("10.96.0.0/16")
    assert allocator.free() == "10.96.1.1"
    assert allocator.why_not("10.96.0.1") == ""


def test_addresses_outside_of_the_block_cannot_be_had() -> None:
    allocator = AddressAllocator("fd00:96::/108")
    for address in ("fd00:97::1", "10.96.0.1", "fd00:96::"):
        assert "is not in the valid range" in allocator.why_not(address)


def test_no_address_is_nobodys() -> None:
    allocator = AddressAllocator("10.0.0.0/26")
    allocator.take("None")
    allocator.release("None")
    assert allocator.why_not("10.0.0.1") == ""


@given(st.lists(st.tuples(st.booleans(), st.integers(100, 160)), max_size=80))
def test_ports_are_those_that_nobody_holds(steps: list[tuple[bool, int]]) -> None:
    allocator = PortAllocator(100, 160)
    held: set[int] = set()
    for takes, port in steps:
        if takes:
            free = allocator.free({port})
            if free is None:
                assert held | {port} == set(range(100, 161))
                continue
            assert free not in held | {port}
            assert allocator.why_not(free) == ""
            allocator.change(release=set(), take={free})
            held.add(free)
        else:
            allocator.change(release={port}, take=set())
            held.discard(port)
        assert bool(allocator.why_not(port)) == (port in held)
