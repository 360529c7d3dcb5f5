"""What is written to the status of a Service."""

from lbipam.kube import ipam_status
from tests.builders_kube import kube_service


def test_no_two_marks_of_a_leader_are_the_same() -> None:
    """One that changes nothing would leave the version as it is, and a late write could still arrive."""
    first, again = (ipam_status.service_touch(kube_service(), (), "a", now) for now in (1.001, 1.002))
    assert first["status"]["conditions"] != again["status"]["conditions"]
