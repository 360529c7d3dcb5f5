from datetime import UTC, datetime, timedelta

import pytest

from lbipam.localapi import columns


@pytest.mark.parametrize(
    ("elapsed", "shown"),
    [
        (timedelta(seconds=5), "5s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(minutes=2), "2m"),
        (timedelta(minutes=2, seconds=30), "2m30s"),
        (timedelta(minutes=15, seconds=30), "15m"),
        (timedelta(minutes=179), "179m"),
        (timedelta(hours=3, minutes=5), "3h5m"),
        (timedelta(hours=20), "20h"),
        (timedelta(days=3, hours=4), "3d4h"),
        (timedelta(days=100), "100d"),
        (timedelta(days=800), "2y70d"),
        (timedelta(days=3650), "10y"),
        (timedelta(seconds=-30), "<invalid>"),
    ],
)
def test_ages_are_shown_as_kubectl_does(elapsed: timedelta, shown: str) -> None:
    then = datetime.now(UTC) - elapsed - timedelta(milliseconds=10)
    assert columns.age(then.isoformat()) == shown


def test_an_absent_age_is_unknown() -> None:
    assert columns.age(None) == "<unknown>"
    assert columns.age("nonsense") == "<invalid>"
