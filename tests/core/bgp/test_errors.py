"""NOTIFICATIONs in words."""

import pytest

from lbipam.core.bgp import errors
from lbipam.core.bgp.codes import Cease
from lbipam.core.bgp.errors import Notification


@pytest.mark.parametrize(
    ("notification", "words"),
    [
        (Notification(code=4), "Hold Timer Expired (4/0)"),
        (Notification(code=6, subcode=7), "Cease/Connection Collision Resolution (6/7)"),
        (Notification(code=2, subcode=2, data=b"\xfd\xe8"), "Open Message/Bad Peer As (2/2), data fde8"),
        (Notification(code=99, subcode=3), "Unknown (99/3)"),
        (Notification(code=6, subcode=99), "Cease/Unknown (6/99)"),
        (Notification(code=6, subcode=2, data=b"\x03bye"), 'Cease/Administrative Shutdown (6/2): "bye"'),
        (
            Notification(code=6, subcode=2, data=b"\x05a\x1b\n\xffz"),
            'Cease/Administrative Shutdown (6/2): "a\ufffd\ufffd\ufffdz"',
        ),
    ],
)
def test_a_notification_says_what_it_means(notification: Notification, words: str) -> None:
    assert str(notification) == words


def test_a_long_communication_is_cut_between_characters() -> None:
    notification = errors.shutdown(Cease.ADMINISTRATIVE_SHUTDOWN, "ä" * 200)
    assert notification.data[0] == 254
    assert notification.communication == "ä" * 127


def test_only_the_subcodes_that_carry_a_communication_get_one() -> None:
    assert errors.shutdown(Cease.PEER_DE_CONFIGURED, "why").data == b""
