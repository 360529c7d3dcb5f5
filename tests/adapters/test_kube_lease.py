import asyncio
import itertools
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
import structlog

from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_config import Connection, connect
from lbipam.adapters.kube_lease import Elector, LeaseTiming, boot_clock
from lbipam.kube.forms import LEASE, Lease
from tests.patience import until
from tests.real_api import RealApi
from tests.scripted_api import ScriptedApi, hold, page, refuse, reply, watch

SHORT = LeaseTiming(lease=3.0, renew_deadline=2.0, retry=0.3)
_numbers = itertools.count()


@pytest.fixture
def lease_name() -> str:
    return f"lease-{os.getpid()}-{next(_numbers)}"


class Candidate:
    """An elector, what it said and when."""

    def __init__(
        self,
        client: Client,
        name: str,
        identity: str,
        timing: LeaseTiming = SHORT,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self.said: list[tuple[str, float]] = []
        self.elector = Elector(
            client,
            namespace="default",
            name=name,
            identity=identity,
            on_started=lambda takeover: self._say("takeover" if takeover else "clean"),
            on_stopped=lambda: self._say("stopped"),
            timing=timing,
            clock=clock,
        )
        self.task = asyncio.create_task(self.elector.run())

    def _say(self, word: str) -> None:
        self.said.append((word, boot_clock()))

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.said]

    async def until_said(self, *words: str, seconds: float = 20.0) -> None:
        await until(lambda: self.words == list(words), seconds=seconds, told=lambda: self.words)

    async def die(self) -> None:
        """End without a word to anybody, as a killed process does."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def candidates(connection: Connection, lease_name: str) -> AsyncIterator[Callable[..., Candidate]]:
    """Makes candidates, each with a connection of its own."""
    made: list[Candidate] = []
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(connection)) for _ in range(3)]

        def make(identity: str, **more: Any) -> Candidate:
            made.append(Candidate(clients[len(made)], lease_name, identity, **more))
            return made[-1]

        try:
            yield make
        finally:
            for one in made:
                await one.die()


async def read(connection: Connection, name: str) -> Lease:
    async with Client(connection) as client:
        body = await client.request("GET", LEASE.path("default", name))
    return msgspec.json.decode(body, type=Lease)


# --- among healthy servers --------------------------------------------------------------------------------


async def test_one_of_two_leads_and_the_lease_says_who(connection: Connection, lease_name: str) -> None:
    async with candidates(connection, lease_name) as make:
        first, second = make("a"), make("b")
        await until(lambda: first.elector.leading or second.elector.leading)
        leader, follower = (first, second) if first.elector.leading else (second, first)
        await asyncio.wait_for(follower.elector.settled.wait(), 10)
        assert leader.words == ["clean"]
        assert not follower.elector.leading
        assert follower.elector.seconds_left() == 0
        before = await read(connection, lease_name)
        assert before.spec.holder_identity == leader.elector.identity
        assert before.spec.lease_duration_seconds == 3
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", before.spec.acquire_time or "")
        valid = leader.elector._valid_until
        await until(lambda: leader.elector._valid_until > valid)
        after = await read(connection, lease_name)
        assert after.spec.acquire_time == before.spec.acquire_time
        assert (after.spec.renew_time or "") > (before.spec.renew_time or "")
        assert follower.words == []


async def test_a_released_lease_is_taken_by_a_follower_that_heard_of_it(
    connection: Connection, lease_name: str
) -> None:
    patient = LeaseTiming(lease=60.0, renew_deadline=40.0, retry=30.0)
    async with candidates(connection, lease_name) as make:
        leader = make("a", timing=patient)
        await leader.until_said("clean")
        follower = make("b", timing=patient)
        await follower.elector.settled.wait()
        await leader.die()
        await leader.elector.release()
        assert leader.words == ["clean", "stopped"]
        assert leader.elector.seconds_left() == 0
        # Well before it would ask by itself, after 30 s, or the lease would run out, after 60 s.
        await follower.until_said("clean", seconds=15)
        lease = await read(connection, lease_name)
        assert (lease.spec.holder_identity, lease.spec.lease_transitions) == ("b", 1)


async def test_a_takeover_that_was_not_brought_to_its_end_is_the_next_leaders(
    connection: Connection, lease_name: str
) -> None:
    async with candidates(connection, lease_name) as make:
        first = make("a")
        await first.until_said("clean")
        await first.die()
        await first.elector.release(unsettled=True)
        second = make("b")
        await second.until_said("takeover")
        await second.die()
        await second.elector.release()
        third = make("c")
        await third.until_said("clean")


async def test_the_lease_of_a_dead_leader_is_taken_over_when_it_has_run_out(
    connection: Connection, lease_name: str
) -> None:
    async with candidates(connection, lease_name) as make:
        leader = make("a")
        await leader.until_said("clean")
        follower = make("b")
        await follower.elector.settled.wait()
        await leader.die()
        fence = leader.elector._valid_until
        await follower.until_said("takeover")
        assert follower.said[0][1] > fence


async def test_a_deleted_lease_runs_out_as_if_it_were_there(connection: Connection, lease_name: str) -> None:
    async with candidates(connection, lease_name) as make:
        leader = make("a")
        await leader.until_said("clean")
        follower = make("b")
        await follower.elector.settled.wait()
        await leader.die()
        async with Client(connection) as client:
            await client.request("DELETE", LEASE.path("default", lease_name))
        await follower.until_said("takeover")
        assert follower.said[0][1] > leader.elector._valid_until


async def test_a_leader_whose_lease_was_deleted_takes_over_from_itself(
    connection: Connection, lease_name: str
) -> None:
    """At once, not at its deadline: somebody who never saw the Lease may have it by then."""
    async with candidates(connection, lease_name) as make:
        leader = make("a", timing=LeaseTiming(lease=60.0, renew_deadline=40.0, retry=0.3))
        await leader.until_said("clean")
        async with Client(connection) as client:
            await client.request("DELETE", LEASE.path("default", lease_name))
        await leader.until_said("clean", "stopped", "takeover", seconds=15)


async def steal(connection: Connection, lease_name: str) -> None:
    async with Client(connection) as client:
        await client.request(
            "PATCH",
            LEASE.path("default", lease_name),
            body=msgspec.json.encode({"spec": {"holderIdentity": "thief"}}),
            content_type="application/merge-patch+json",
        )


async def test_a_leader_whose_lease_was_stolen_stops(connection: Connection, lease_name: str) -> None:
    async with candidates(connection, lease_name) as make:
        leader = make("a")
        await leader.until_said("clean")
        await steal(connection, lease_name)
        await leader.until_said("clean", "stopped")


async def test_the_lease_of_another_is_not_given_up(connection: Connection, lease_name: str) -> None:
    async with candidates(connection, lease_name) as make:
        leader = make("a")
        await leader.until_said("clean")
        await leader.die()
        await steal(connection, lease_name)
        await leader.elector.release()
        assert (await read(connection, lease_name)).spec.holder_identity == "thief"


async def test_a_namesake_does_not_lead_by_the_lease_of_another(
    connection: Connection, lease_name: str
) -> None:
    async with candidates(connection, lease_name) as make:
        leader = make("same")
        await leader.until_said("clean")
        namesake = make("same")
        await namesake.elector.settled.wait()
        assert not namesake.elector.leading
        await namesake.elector.release()
        assert (await read(connection, lease_name)).spec.holder_identity == "same"


async def test_clocks_that_differ_by_hours_change_nothing(connection: Connection, lease_name: str) -> None:
    async with candidates(connection, lease_name) as make:
        leader = make("a", clock=lambda: boot_clock() - 7200)
        await leader.until_said("clean")
        follower = make("b", clock=lambda: boot_clock() + 7200)
        await follower.elector.settled.wait()
        valid = leader.elector._valid_until
        # Longer than a lease lasts.
        await until(lambda: leader.elector._valid_until > valid + 3.5)
        assert (leader.words, follower.words) == (["clean"], [])


async def test_a_leader_that_was_suspended_finds_itself_fenced_at_once(
    connection: Connection, lease_name: str
) -> None:
    slept = 0.0
    async with candidates(connection, lease_name) as make:
        leader = make("a", clock=lambda: boot_clock() + slept)
        await leader.until_said("clean")
        assert 0 < leader.elector.seconds_left() <= 2
        slept = 60.0
        assert leader.elector.seconds_left() <= 0
        assert not leader.elector.leading
        # It may lead again by its own Lease, but whoever asks must know that there was a gap.
        await leader.until_said("clean", "stopped", "takeover")


# --- with servers that die, hang and lie ------------------------------------------------------------------


async def test_in_a_black_hole_the_leader_stops_before_anybody_may_take_over(
    real_api: RealApi, lease_name: str
) -> None:
    connection = await connect(str(real_api.kubeconfig))
    async with candidates(connection, lease_name) as make:
        leader = make("a")
        await leader.until_said("clean")
        follower = make("b")
        await follower.elector.settled.wait()
        with real_api.paused():
            await leader.until_said("clean", "stopped")
            fence = leader.said[1][1]
        await until(lambda: "takeover" in leader.words + follower.words)
        again = next(at for word, at in leader.said + follower.said if word == "takeover")
        assert again > fence


async def test_a_leader_is_fenced_while_its_server_is_dead_and_leads_again_after(
    real_api: RealApi, lease_name: str
) -> None:
    async with candidates(await connect(str(real_api.kubeconfig)), lease_name) as make:
        leader = make("a")
        await leader.until_said("clean")
        real_api.kill()
        await leader.until_said("clean", "stopped")
        await asyncio.to_thread(real_api.start)
        await leader.until_said("clean", "stopped", "takeover", seconds=40)


def lease_of(holder: str, version: int, seconds: int = 3, **more: Any) -> dict[str, Any]:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": seconds, **more}
    metadata = {"name": "x", "namespace": "default", "uid": "u", "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": spec}


class LeaseServer:
    """Answers for one Lease; `put` answers the writes."""

    def __init__(self, put: Any, lease: dict[str, Any] | None = None) -> None:
        self.put = put
        self.lease = lease

    async def __call__(self, request: Any) -> Any:
        if request.method in ("PUT", "POST"):
            return await self.put(request)
        if "watch" in request.query:
            return await watch()(request)
        if not request.path.endswith("/x"):
            return await page(version=1)(request)
        return await (reply(self.lease) if self.lease else refuse(404, "NotFound"))(request)


async def test_a_lease_that_is_written_but_never_answered_is_not_led_by() -> None:
    async with ScriptedApi(then=LeaseServer(hold)) as api, candidates(api.connection, "x") as make:
        candidate = make("a")
        await until(lambda: len([asked for asked in api.asked if asked.method == "POST"]) >= 2)
        assert candidate.words == []


async def test_a_holder_that_keeps_renewing_is_left_alone_whatever_its_times_say() -> None:
    versions = itertools.count(1)
    long_ago = "2001-01-01T00:00:00.000000Z"

    class Renewed(LeaseServer):
        async def __call__(self, request: Any) -> Any:
            self.lease = lease_of("other", next(versions), 1, renewTime=long_ago, acquireTime=long_ago)
            return await super().__call__(request)

    server = Renewed(refuse(500))
    async with ScriptedApi(then=server) as api, candidates(api.connection, "x") as make:
        make("a")
        await until(lambda: len(api.asked) > 12)
        assert {asked.method for asked in api.asked} == {"GET"}


async def test_a_renewal_that_arrived_unanswered_does_not_cost_the_lead() -> None:
    """The answer to a renewal is lost: the next finds a newer version, and it is ours."""
    state: dict[str, Any] = {"version": 1, "losses": 1}
    server = LeaseServer(None)

    async def put(request: Any) -> Any:
        body = msgspec.json.decode(await request.read())
        stale = request.method == "PUT" and body["metadata"]["resourceVersion"] != str(state["version"])
        if stale:
            return await refuse(409, "Conflict")(request)
        state["version"] += 1
        body["metadata"] = {**lease_of("", state["version"])["metadata"]}
        server.lease = body
        if request.method == "PUT" and state["losses"]:
            state["losses"] -= 1
            return await refuse(504, "Timeout")(request)
        return await reply(body)(request)

    server.put = put
    async with ScriptedApi(then=server) as api, candidates(api.connection, "x") as make:
        candidate = make("a")
        await candidate.until_said("clean")
        valid = candidate.elector._valid_until
        await until(lambda: candidate.elector._valid_until > valid)
        assert candidate.words == ["clean"]
        assert state["losses"] == 0


async def test_a_renewal_that_arrives_while_the_lease_is_given_up_does_not_keep_it() -> None:
    late = [refuse(409, "Conflict")]

    async def put(request: Any) -> Any:
        body = msgspec.json.decode(await request.read())
        if not body["spec"].get("holderIdentity") and late:
            return await late.pop()(request)
        body["metadata"] = lease_of("", 1)["metadata"]
        server.lease = body
        return await reply(body)(request)

    server = LeaseServer(put)
    async with ScriptedApi(then=server) as api, candidates(api.connection, "x") as make:
        candidate = make("a")
        await candidate.until_said("clean")
        await candidate.die()
        await candidate.elector.release()
        assert not late
        assert server.lease is not None
        assert not server.lease["spec"].get("holderIdentity")


async def test_a_renewal_that_is_never_answered_leaves_time_for_another() -> None:
    """As on a connection whose other end died without a word."""
    renewals = 0

    async def put(request: Any) -> Any:
        nonlocal renewals
        body = msgspec.json.decode(await request.read())
        renewals += request.method == "PUT"
        if renewals == 1:
            return await hold(request)
        body["metadata"] = lease_of("", 1)["metadata"]
        server.lease = body
        return await reply(body)(request)

    server = LeaseServer(put)
    async with ScriptedApi(then=server) as api, candidates(api.connection, "x") as make:
        candidate = make("a", timing=LeaseTiming(lease=9.0, renew_deadline=6.0, retry=0.2))
        await candidate.until_said("clean")
        await until(lambda: renewals > 2)
        assert candidate.words == ["clean"]


async def test_a_renewal_refused_for_a_while_ends_the_lead_at_the_deadline() -> None:
    server = LeaseServer(None)
    refusing = False

    async def put(request: Any) -> Any:
        if refusing:
            return await refuse(500, "InternalError")(request)
        body = msgspec.json.decode(await request.read())
        body["metadata"] = lease_of("", 1)["metadata"]
        server.lease = body
        return await reply(body)(request)

    server.put = put
    async with ScriptedApi(then=server) as api, candidates(api.connection, "x") as make:
        candidate = make("a")
        await candidate.until_said("clean")
        refusing = True
        await until(lambda: "stopped" in candidate.words)
        assert candidate.said[1][1] >= candidate.said[0][1]
        assert candidate.elector.seconds_left() == 0


async def test_a_renewal_that_is_answered_after_the_deadline_does_not_hide_the_gap() -> None:
    """Suspended while the answer was on its way: what the fence ended meanwhile must be begun anew."""
    slept = 0.0
    renewals = 0

    async def put(request: Any) -> Any:
        nonlocal slept, renewals
        body = msgspec.json.decode(await request.read())
        body["metadata"] = lease_of("", 1)["metadata"]
        server.lease = body
        renewals += request.method == "PUT"
        if renewals == 1:
            slept = 30.0
            return await refuse(500, "InternalError")(request)
        if renewals == 2:
            slept = 45.0
        return await reply(body)(request)

    server = LeaseServer(put)
    async with ScriptedApi(then=server) as api, candidates(api.connection, "x") as make:
        timing = LeaseTiming(lease=60.0, renew_deadline=40.0, retry=0.3)
        candidate = make("a", timing=timing, clock=lambda: boot_clock() + slept)
        await until(lambda: renewals > 2)
        await until(lambda: candidate.words == ["clean", "stopped", "takeover"], told=lambda: candidate.words)


@pytest.mark.parametrize("lease", [None, {"metadata": {"name": "x", "resourceVersion": "1"}, "spec": {}}])
async def test_a_server_that_always_says_that_the_lease_has_changed_is_not_asked_in_a_tight_loop(
    lease: dict[str, Any] | None,
) -> None:
    times: list[float] = []

    async def refused(request: Any) -> Any:
        times.append(time.monotonic())
        return await refuse(409, "Conflict")(request)

    server = LeaseServer(refused, lease)
    async with ScriptedApi(then=server) as api, candidates(api.connection, "x") as make:
        candidate = make("a")
        await until(lambda: len(times) >= 4)
        assert candidate.words == []
    assert all(after - before >= SHORT.retry for before, after in itertools.pairwise(times))


async def test_why_it_cannot_stand_for_election_is_logged_once() -> None:
    forbidden, sick = refuse(403, "Forbidden", "no"), refuse(500, "InternalError", "sick")
    answers = [forbidden, forbidden, forbidden, sick]

    class Refusing(LeaseServer):
        async def __call__(self, request: Any) -> Any:
            if request.path.endswith("/x") and answers:
                return await answers.pop(0)(request)
            return await super().__call__(request)

    server = Refusing(hold, lease_of("other", 1))
    with structlog.testing.capture_logs() as logs:
        async with ScriptedApi(then=server) as api, candidates(api.connection, "x") as make:
            make("a")
            await until(lambda: not answers)
            await until(lambda: len(logs) == 2)
    assert [log["problem"][:3] for log in logs] == ["403", "500"]


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_leader_counts_from_before_it_asked(method: str) -> None:
    """Others count from when they saw it, which may be long before we hear of it."""
    slept = 0.0

    async def put(request: Any) -> Any:
        nonlocal slept
        body = msgspec.json.decode(await request.read())
        body["metadata"] = lease_of("", 1)["metadata"]
        server.lease = body
        if slept:
            return await hold(request)
        slept = 50.0 if request.method == method else 0.0
        return await reply(body)(request)

    server = LeaseServer(put)
    async with ScriptedApi(then=server) as api, candidates(api.connection, "x") as make:
        timing = LeaseTiming(lease=120.0, renew_deadline=100.0, retry=0.1)
        candidate = make("a", timing=timing, clock=lambda: boot_clock() + slept)
        writes = 2 if method == "POST" else 3
        await until(lambda: len([one for one in api.asked if one.method in ("POST", "PUT")]) == writes)
        assert 0 < candidate.elector.seconds_left() <= 50


@pytest.mark.parametrize(
    ("lease", "renew_deadline", "retry"), [(10, 10, 2), (15, 16, 2), (15, 10, 10), (15, 10, 0)]
)
def test_durations_with_which_two_could_lead_are_refused(
    lease: float, renew_deadline: float, retry: float
) -> None:
    with pytest.raises(ValueError, match="must exceed"):
        LeaseTiming(lease=lease, renew_deadline=renew_deadline, retry=retry)
