"""Hands rulesets to libnftables; reads the table back.

    apply(update) ─▶ worker thread: difference ─▶ libnftables ─▶ kernel ─▶ Applied: the rules stand

All work is done by one thread, in which ctypes gives the interpreter's lock away while the library works.
Where there is no `libnftables.so.1`, the `nft` program does the same with a process for each transaction.
The table outlives the process: traffic goes on. This file does not decide what the rules are.
"""

import asyncio
import ctypes
import itertools
import os
import re
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from lbipam.adapters import conntrack
from lbipam.adapters.nft_tables import Tables, Touches
from lbipam.core.datapath import chains, nft, report, services
from lbipam.core.datapath.frontends import Frontend
from lbipam.core.datapath.ruleset import Update
from lbipam.core.datapath.services import IPAddress

T = TypeVar("T")

LIBRARY = "libnftables.so.1"


class NftRefused(Exception):  # noqa: N818 - it is what happened, not an error of ours
    """The library or the kernel did not take the commands; none of them has been carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The rules stand in the kernel."""

    changed: bool
    """The kernel was told something; False: it stood already."""
    forgotten: int = 0
    """Datagram flows that were cut off from endpoints they must not use any more."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Services of which no rules stand, since the kernel does not take them, and what it says."""


class Nft(Protocol):
    """Runs nft commands: all of them or none."""

    def run(self, commands: str, *, is_trial: bool = False) -> str:
        """What nft prints, with numeric output; on trial the kernel looks at the commands and changes nothing.

        Raises:
            NftRefused: nothing has been changed.
        """

    def close(self) -> None:
        """Give up what is held."""


class NftLibrary:
    """The `nft_*` functions of libnftables that we need (libnftables(3)). Not thread-safe."""

    _NUMERIC_ALL = 0b1111 << 7

    def __init__(self) -> None:
        """Raises OSError where there is no library."""
        library = ctypes.CDLL(LIBRARY)
        library.nft_ctx_new.restype = ctypes.c_void_p
        for function in (library.nft_ctx_get_output_buffer, library.nft_ctx_get_error_buffer):
            function.restype = ctypes.c_char_p
            function.argtypes = [ctypes.c_void_p]
        for function in (library.nft_ctx_buffer_output, library.nft_ctx_buffer_error, library.nft_ctx_free):
            function.argtypes = [ctypes.c_void_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
        library.nft_run_cmd_from_filename.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library = library
        self._context = ctypes.c_void_p(library.nft_ctx_new(0))
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_output_set_flags(self._context, self._NUMERIC_ALL)

    def run(self, commands: str, *, is_trial: bool = False) -> str:
        self._library.nft_ctx_set_dry_run(self._context, is_trial)
        # Of a buffer the library tells neither line nor column; of a file, be it in memory, it does.
        with open(os.memfd_create("nft"), "wb") as file:  # noqa: PTH123 - it has no path
            file.write(commands.encode())
            file.flush()
            path = f"/proc/self/fd/{file.fileno()}"
            failed = self._library.nft_run_cmd_from_filename(self._context, path.encode())
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        problem: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        if failed:
            raise refusal(problem.decode(), commands)
        return output.decode()

    def close(self) -> None:
        self._library.nft_ctx_free(self._context)


class NftProgram:
    """The `nft` program, for where there is no library."""

    def run(self, commands: str, *, is_trial: bool = False) -> str:
        options = "-cnf" if is_trial else "-nf"
        try:
            done = subprocess.run(  # noqa: S603 - all of it is ours
                ["nft", options, "-"],  # noqa: S607 - where it lies is the distribution's choice
                input=commands,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError as problem:
            raise NftRefused("neither libnftables.so.1 nor the nft program is installed") from problem
        if done.returncode:
            raise refusal(done.stderr, commands)
        return done.stdout

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernel:
    """What the worker holds open."""

    nft: Nft
    tables: Tables


class NftDatapath:
    """The node's table, kept as wanted.

    Calls may overlap; they are served in order. `close` leaves the rules in place, `cleanup` removes them.
    """

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nft")
        self._table = nft.Table()
        self._kernel: _Kernel | None = None
        self._is_ours = False
        """Nobody else has changed our table since we knew all of it."""
        self._left_out: dict[str, str] = {}
        self._to_forget: dict[tuple[IPAddress, services.Protocol, int], nft.Forget] = {}
        self._to_unlearn: dict[str, Frontend] = {}
        self._handle: int | None = None
        """Of the table, as our last transaction left it."""

    async def apply(self, update: Update) -> Applied:
        """Make the table what is wanted, in one transaction; the answer means that the rules stand.

        The first call of a process starts from what the kernel reports, so that nothing that is right is
        touched. A table that others have changed under us is mended on the way. A Service that the kernel does
        not take is left out until it changes, so that the others go on. What else is refused is wanted all the
        same: `reconcile` and the next `apply` try again.

        Raises:
            NftRefused: the table is as it was before.
            OSError: the kernel cannot be asked.
        """
        return await self._in_worker(lambda: self._apply(update))

    async def reconcile(self) -> Applied | None:
        """Make the table what was last wanted; None if nothing ever was.

        Asks for nothing while the kernel tells of no other's change to it.

        Raises:
            NftRefused, OSError: as `apply`.
        """
        return await self._in_worker(self._reconcile)

    async def is_lost(self) -> bool:
        """Whether others have removed the table, or put one of theirs in its place: soon told, by a few bytes.

        Raises:
            OSError: the kernel cannot be asked.
        """
        return await self._in_worker(self._is_lost)

    async def cleanup(self) -> None:
        """Remove the table, if it is there."""
        await self._in_worker(self._cleanup)

    async def close(self) -> None:
        """Give up the thread and the library; the rules stay and traffic goes on."""
        await self._in_worker(self._close)
        self._worker.shutdown()

    async def _in_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _apply(self, update: Update) -> Applied:
        self._table.want(update)
        for name in update.services:
            self._left_out.pop(name, None)
        return self._settle()

    def _reconcile(self) -> Applied | None:
        if self._table.node is None:
            return None
        if not self._is_still_ours():
            self._table.lose()
        return self._settle()

    def _is_lost(self) -> bool:
        if self._handle is None:
            return False  # we have made none
        return not self._is_still_ours() and self._handle != self._open().tables.handle_of_ours()

    def _is_still_ours(self) -> bool:
        self._is_ours &= self._open().tables.take_touches() == Touches()
        return self._is_ours

    def _settle(self) -> Applied:
        """Make what is wanted stand, but for what cannot."""
        return replace(self._stand(), left_out=dict(self._left_out))

    def _stand(self) -> Applied:
        if self._table.is_known:
            try:
                return self._change()
            except NftRefused:
                pass  # somebody else was at our table
        return self._repair()

    def _change(self) -> Applied:
        try:
            return self._take(self._table.change())
        except NftRefused:
            if not self._leave_out(self._table.changed):
                raise
            return self._take(self._table.change())

    def _repair(self) -> Applied:
        """From what the kernel reports; where that cannot lead there, by a new table."""
        self._open().tables.take_touches()
        self._is_ours = True
        try:
            return self._repaired()
        except BaseException:
            self._is_ours = False
            raise
        finally:
            # The library has used some 80 MB for 5,000 Services, which the C library would keep.
            give_back_memory(ctypes.CDLL(None))

    def _repaired(self) -> Applied:
        try:
            return self._take(self._table.repair(report.read(self._list())))
        except NftRefused:
            if self._leave_out(self._table.services):
                return self._repaired()
            self._table.lose()
            return self._take(self._table.change())

    def _leave_out(self, suspects: Collection[str]) -> bool:
        """Want nothing of those Services that the kernel does not take by themselves; whether there are any."""
        refused: dict[str, str] = {}
        # What is refused without any Service is not for a Service that it is.
        waiting = [sorted(suspects)] if suspects and self._why_refused(()) is None else []
        while waiting:
            names = waiting.pop()
            problem = self._why_refused(names)
            if problem is not None and len(names) == 1:
                refused[names[0]] = problem
            elif problem is not None:
                half = len(names) // 2
                waiting += [names[:half], names[half:]]
        self._table.leave_out(refused)
        self._left_out |= refused
        return bool(refused)

    def _why_refused(self, services: Sequence[str]) -> str | None:
        try:
            self._run(self._table.trial(services), is_trial=True)
        except NftRefused as refused:
            return str(refused)
        return None

    def _list(self) -> str:
        try:
            return self._run(f"list table {nft.TABLE}")
        except NftRefused:
            return ""  # there is none

    def _take(self, change: nft.Change) -> Applied:
        if change.transaction:
            self._run_own(itertools.chain(change.foundation, (change.transaction,)))
        self._handle = self._open().tables.handle_of_ours()
        self._table.commit(change)
        self._to_forget |= {(flow.address, flow.protocol, flow.port): flow for flow in change.forget}
        self._to_unlearn |= {frontend.key: frontend for frontend in change.unlearn}
        return Applied(changed=bool(change.transaction), forgotten=self._finish())

    def _run_own(self, transactions: Iterable[str]) -> None:
        """Run what is our own, and notice whether others were at our table before it was done."""
        tables = self._open().tables
        before = tables.generation()
        count = 0
        for transaction in transactions:
            self._run(transaction)
            count += 1
        after = tables.generation()
        own = frozenset(range(before + 1, after + 1)) if after == before + count else frozenset[int]()
        touches = tables.take_touches()
        # Of a long transaction of ours not all may have been heard.
        self._is_ours &= touches.transactions <= own and (touches.is_all or bool(own))

    def _finish(self) -> int:
        """What has to be done once rules stand; the number of flows forgotten. What fails is done the next time."""
        for key, frontend in tuple(self._to_unlearn.items()):
            if self._table.stands(frontend):
                self._unlearn(frontend)
            del self._to_unlearn[key]
        forgotten = conntrack.forget(self._to_forget.values()) if self._to_forget else 0
        self._to_forget.clear()
        return forgotten

    def _unlearn(self, frontend: Frontend) -> None:
        """Make the table forget which clients were at endpoints that they may not be sent to any more."""
        node = self._table.node
        assert node is not None
        for port in frontend.target_ports:
            name = chains.clients_name(frontend, port)
            for client, endpoint in report.learned(self._run(f"list map {nft.TABLE} {name}")):
                if not frontend.may_serve(client, endpoint, port, node):
                    self._delete_learned(name, f"{client}")

    def _delete_learned(self, name: str, client: str) -> None:
        try:
            self._run_own((f"delete element {nft.TABLE} {name} {{ {client} }}",))
        except NftRefused:
            return  # its time was up

    def _cleanup(self) -> None:
        self._table.lose()
        self._run(f"add table {nft.TABLE}\ndelete table {nft.TABLE}")

    def _close(self) -> None:
        if self._kernel is not None:
            self._kernel.nft.close()
            self._kernel.tables.close()
            self._kernel = None

    def _run(self, commands: str, *, is_trial: bool = False) -> str:
        return self._open().nft.run(commands, is_trial=is_trial)

    def _open(self) -> _Kernel:
        if self._kernel is None:
            self._kernel = _Kernel(nft=open_nft(), tables=Tables())
        return self._kernel


def give_back_memory(c_library: object) -> None:
    """musl, the C library of Alpine, keeps no memory that it could be asked for."""
    trim = getattr(c_library, "malloc_trim", None)
    if trim is not None:
        trim(0)


def open_nft() -> Nft:
    """The library if it is installed, else the program."""
    try:
        return NftLibrary()
    except OSError:
        return NftProgram()


_PLACE = re.compile(r"^\S+?:(\d+):(\d+)-\d+: Error: (.*)$", re.MULTILINE)


def refusal(problem: str, commands: str) -> NftRefused:
    """What nft prints (`FILE:LINE:FROM-TO: Error: TEXT`) with the beginning of the line it is about."""
    place = _PLACE.search(problem)
    if place is None:
        return NftRefused(problem.strip() or "refused without a reason")
    line, column, text = place.groups()
    command = "".join(commands.splitlines()[int(line) - 1 : int(line)])[:200]
    return NftRefused(f"{text} (line {line}, column {column}: {command})")
