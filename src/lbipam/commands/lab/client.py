"""The client outside: asks the same URL again and again, and notes what came of each request.

    python -m lbipam.commands.lab.client URL FILE

Each request is a connection of its own, so that each finds its own way. One line of JSON is written for
each: when it was sent and when it ended (seconds of the machine's monotonic clock), and what was answered.
This file judges nothing.
"""

import json
import sys
import threading
import time
import urllib.request
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

_EVERY_SECONDS = 0.05
_GIVE_UP_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request: when it was sent and when it ended, in seconds, and the answer, empty if none came."""

    sent: float
    ended: float
    answer: str


def attempts(path: Path) -> list[Attempt]:
    """What a client has written so far, in the order of sending."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()
    return sorted((Attempt(**json.loads(line)) for line in lines), key=lambda one: one.sent)


def longest_gap(found: list[Attempt]) -> float:
    """The longest time, in seconds, between two answers that followed one another."""
    answered = sorted(one.ended for one in found if one.answer)
    return max((later - sooner for sooner, later in pairwise(answered)), default=0.0)


def steady_seconds(found: list[Attempt], since: float) -> float:
    """How long, in seconds, every request sent after `since` has been answered, as far as is known by now."""
    lost = max((one.sent for one in found if not one.answer), default=since)
    return max(one.sent for one in found) - max(lost, since)


def _ask(url: str, path: Path, lock: threading.Lock) -> None:
    sent = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=_GIVE_UP_SECONDS) as response:  # noqa: S310 -- http, from the lab
            answer = response.read().decode().strip()
    except OSError:
        answer = ""
    attempt = Attempt(sent=sent, ended=time.monotonic(), answer=answer)
    with lock, path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(attempt)) + "\n")


def keep_asking(url: str, path: Path) -> None:
    """Send a request every 50 ms, whether or not earlier ones have been answered, until killed."""
    lock = threading.Lock()
    while True:
        threading.Thread(target=_ask, args=(url, path, lock), daemon=True).start()
        time.sleep(_EVERY_SECONDS)


if __name__ == "__main__":
    keep_asking(sys.argv[1], Path(sys.argv[2]))
