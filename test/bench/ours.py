"""Driving our agent: sites with the settings that a user has, one-off runs, running agents that are warm."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping

import agents
from bench.bars import HANDSHAKE
from bench.command import run
from bench.frame import Arena, Way
from bench.results import NotDelivered
from bench.trees import Tree, none_left
from support import Agent, Site, Stream, wait_until

#: The tests' own settings that are not a user's: None stands for the default of the program.
_AS_USERS_HAVE_IT: Mapping[str, Mapping[str, object]] = {
    "global": {"general_poll_interval": None, "stop_timeout": None},
    "outgoing": {"stop_file_poll_interval": None, "retry_count": None},
    "logging": {"log_level": "INFO"},
}
#: Emptied directories go at once, as with rsync's --remove-source-files they stay: both is quick.
EMPTY_AT_ONCE = {"empty_directory_age": 0}

#: Seconds that anything may take.
_LIMIT = 3600.0
#: Seconds between two looks at the ledger.
_LOOK = 0.01
_WARM = "warm"


def make_site(arena: Arena, *, mode: str = "move") -> Site:
    """Given an arena and a transfer mode, return a site without streams."""
    return Site(arena.directory, arena.sshd, rsync_ssh={"transfer_mode": mode}, **_AS_USERS_HAVE_IT)


@contextlib.contextmanager
def running(site: Site) -> Iterator[Agent]:
    """Given a site, run its agent, and yield it when every stream has delivered a file and is idle again."""
    try:
        with agents.agent_of(site) as agent:
            warm_up(site)
            yield agent
    except AssertionError as error:
        said = (site.directory / "agent.out").read_text(errors="replace")
        raise NotDelivered(f"{error}; the agent said:\n{said[-2000:]}") from None


def warm_up(site: Site, limit: float = 60) -> None:
    """Given a site whose agent runs, send a file through every stream, so that all connections stand."""
    for stream in site.streams.values():
        (stream.source / _WARM).write_bytes(b"warm")
    wait_until(lambda: all((s.target / _WARM).exists() for s in site.streams.values()), limit, "warm", every=0.1)
    time.sleep(1)  # until the next rsync waits at both ends; the pause is part of "idle"


def ways(tree: Tree, mode: str) -> list[Way[float]]:
    """Given a tree and a transfer mode, return our ways to deliver it."""
    ways = [
        Way(
            name="ours, one-off",
            settings=f"mistamover --one-off, transfer_mode = {mode}, empty_directory_age = 0; from the start of the "
            "command to its end",
            run=lambda arena: _one_off(arena, tree, mode),
        ),
        Way(
            name="ours, running",
            settings=f"a running agent, transfer_mode = {mode}, empty_directory_age = 0; the tree is renamed into the "
            "watched directory; until the ledger says that all is handed over",
            run=lambda arena: _running(arena, tree, mode),
        ),
    ]
    if mode == "move":
        ways.append(
            Way(
                name=HANDSHAKE,
                settings="as the running agent, with an arrival monitor at the target and receipts for every file "
                "(checksum_algorithm = sha256)",
                run=lambda arena: _with_handshake(arena, tree),
            )
        )
    return ways


def one_off_argv(site: Site) -> list[str]:
    """Return the argv of a one-off run."""
    return site.command("--one-off", str(site.global_ini))


def _one_off(arena: Arena, tree: Tree, mode: str) -> float:
    site = make_site(arena, mode=mode)
    stream = site.add("one", data_stream=EMPTY_AT_ONCE)
    tree.make(stream.source)
    try:
        seconds = run(one_off_argv(site), env=site.environment(), cwd=site.directory)
    finally:
        agents.end_all(site)
    verify(stream, tree, mode)
    return seconds


def verify(stream: Stream, tree: Tree, mode: str, below: str = ".") -> None:
    """Given where a tree lay in a stream, raise NotDelivered unless it is at the target, and here only in a mirror."""
    tree.check(stream.target / below)
    if mode == "move":
        none_left(stream.source / below)
    else:
        tree.check(stream.source / below)


def _running(arena: Arena, tree: Tree, mode: str) -> float:
    site = make_site(arena, mode=mode)
    stream = site.add("one", data_stream=EMPTY_AT_ONCE)
    prepared = arena.directory / "prepared"
    tree.make(prepared)
    with running(site):
        begin = time.monotonic()
        prepared.rename(stream.source / "tree")
        _until_handed_over(site, "one", tree.files + 1)
        seconds = time.monotonic() - begin
        verify(stream, tree, mode, "tree")
    return seconds


def _with_handshake(arena: Arena, tree: Tree) -> float:
    site = make_site(arena)
    there = Site(arena.directory / "there", arena.sshd)
    incoming = there.directory / "incoming" / "one"
    incoming.mkdir()
    receiver = there.add(
        "one",
        incoming={"require_arrival_monitor": True, "directory": incoming},
        outgoing={"transfer_protocol": "none"},
    )
    stream = site.add(
        "one",
        data_stream=EMPTY_AT_ONCE,
        outgoing={"target_dir": incoming, "target_uses_arrival_monitor": True, "checksum_algorithm": "sha256"},
    )
    prepared = arena.directory / "prepared"
    tree.make(prepared)
    monitor = agents.start(there)
    try:
        with agents.agent_of(site):
            (stream.source / _WARM).write_bytes(b"warm")
            wait_until((receiver.source / _WARM).exists, 60, "warm", every=0.1)
            time.sleep(1)  # as in `warm_up`
            begin = time.monotonic()
            prepared.rename(stream.source / "tree")
            _until_handed_over(site, "one", tree.files + 1)
            seconds = time.monotonic() - begin
            tree.check(receiver.source / "tree")
            none_left(stream.source / "tree")
    except AssertionError as error:
        raise NotDelivered(str(error)) from None
    finally:
        monitor.kill()
        agents.end_all(there)
    return seconds


def _until_handed_over(site: Site, name: str, files: int) -> None:
    """Wait until the ledger holds so many files and no batch is open: what is moved has been removed by then."""
    path = agents.state_of(site, name) / "ledger.sqlite"
    # Only what is new since the last look is counted, so that looking costs next to nothing.
    query = (
        "SELECT coalesce(max(id), ?1), coalesce(sum(kind = 'file'), 0),"
        " (SELECT count(*) FROM batch WHERE handed_over IS NULL) FROM delivery WHERE id > ?1"
    )
    deadline, last, found = time.monotonic() + _LIMIT, 0, 0
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as ledger:
        while True:
            last, new, open_batches = ledger.execute(query, (last,)).fetchone()
            found += new
            if found >= files and not open_batches:
                return
            if time.monotonic() > deadline:
                raise NotDelivered(f"{found} of {files} files are in the ledger after {_LIMIT:g} s")
            time.sleep(_LOOK)
