"""A reservation says for whom it is."""

from tests.builders import reservation


def test_a_reservation_tells_for_whom_and_why() -> None:
    assert str(reservation("r", "10.0.0.1")) == "for nobody by IPReservation r"
    mine = reservation("r", "10.0.0.1", to="ns/app", reason="it is printed on stickers")
    assert str(mine) == "for ns/app by IPReservation r (it is printed on stickers)"


def test_the_older_of_two_counts() -> None:
    older = reservation("z", "10.0.0.1", created="2026-01-01T00:00:00Z")
    younger = reservation("a", "10.0.0.1", created="2026-01-02T00:00:00Z")
    assert older.age < younger.age
