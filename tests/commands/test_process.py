"""What processes have besides their work."""

import asyncio
import gc
import os
import signal
import socket
import threading
from typing import Any

import pytest
import structlog

from lbipam.adapters.kube_client import Client
from lbipam.commands import process
from lbipam.commands.process import learn_without_pauses, once_ready, only, running, until_told
from tests.patience import until
from tests.scripted_api import ScriptedApi, refuse, reply


async def test_what_is_learnt_at_the_start_is_spared_the_collector_and_nothing_else() -> None:
    has_learnt = False
    gc.unfreeze()  # Other tests have processes learn, too.
    try:
        async with running(learn_without_pauses(lambda: has_learnt)):
            await until(lambda: not gc.isenabled())
            assert gc.get_freeze_count() == 0
            has_learnt = True
            await until(gc.isenabled)
            assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


async def test_a_start_that_does_not_come_to_its_end_is_collected_like_all_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "_LONGEST_START", 0.1)
    try:
        await asyncio.wait_for(learn_without_pauses(lambda: False), 10)
        assert gc.isenabled()
    finally:
        gc.unfreeze()


async def test_why_the_api_server_is_waited_for_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(_: Client) -> str:
        return "served"

    monkeypatch.setattr(process, "_NOT_READY_SECONDS", 0.0)
    starting, sick = refuse(503, "", "starting"), refuse(500, "", "sick")
    with structlog.testing.capture_logs() as logs:
        async with (
            ScriptedApi(starting, starting, starting, sick, then=reply(b"ok")) as api,
            Client(api.connection) as client,
        ):
            assert await once_ready(client, ask) == "served"
    assert [log["problem"] for log in logs] == ["503: starting", "500: sick"]


def test_a_process_that_is_told_to_end_does_not_wait_for_a_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers, answered = threading.Event(), threading.Event(), threading.Event()

    def hang(*_: Any) -> Any:
        asked.set()
        answers.wait(60)
        answered.set()
        raise OSError

    async def work() -> None:
        connecting = asyncio.create_task(asyncio.open_connection("server.invalid", 6443))
        await until(asked.is_set)
        os.kill(os.getpid(), signal.SIGTERM)
        await connecting

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    until_told(work)
    assert not answered.is_set()
    answers.set()
    assert answered.wait(60)


def test_a_name_is_looked_up_once_for_all_who_ask_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = threading.Event()

    def answer(host: str, *_: Any) -> Any:
        asked.append(host)
        answers.wait(60)
        raise UnicodeError(host)

    async def work() -> None:
        connecting = [
            asyncio.create_task(asyncio.open_connection(name, 1)) for name in ("a..a", "a..a", "b..b")
        ]
        await until(lambda: len(asked) >= 2)
        connecting[0].cancel()
        await asyncio.sleep(0)
        answers.set()
        problems = await asyncio.gather(*connecting, return_exceptions=True)
        assert [type(problem) for problem in problems] == [asyncio.CancelledError, UnicodeError, UnicodeError]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    until_told(work)
    assert sorted(asked) == ["a..a", "b..b"]


async def test_a_second_process_of_a_name_says_so_once_and_waits_until_the_first_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "_STILL_THERE_SECONDS", 0.0)
    order: list[str] = []

    async def second() -> None:
        async with only(name):
            order.append("second")

    name = f"test/{os.getpid()}"
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as group, only(name), only(f"{name}/another"):
            group.create_task(second())
            for _ in range(3):
                await asyncio.sleep(0)
            order.append("first")
    assert order == ["first", "second"]
    assert [log["name"] for log in logs] == [name]
