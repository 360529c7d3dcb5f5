from lbipam.localapi.wishes import Wish
from tests.localapi.test_reading import services, things


def test_a_write_to_the_object_cannot_own_the_status_and_the_other_way_round() -> None:
    whole = Wish(resource=services(), version="v1", manager="me")
    assert whole.out_of_reach == {"status"}
    assert Wish(resource=services(), version="v1", manager="me", subresource="status").out_of_reach == {
        "spec"
    }
    status = Wish(resource=things(), version="v1", manager="me", subresource="status")
    assert status.out_of_reach == {"spec", "metadata"}
