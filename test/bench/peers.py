"""The other programs that carry a whole tree: their commands at their best documented settings."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.command import finish, run, started
from bench.frame import Arena, Way
from bench.trees import Tree, none_left

#: Files of which a program that takes one at a time gets a sample; the time is extrapolated to all.
_SAMPLE = 20

#: More transfers than rclone's 4 pay while files are small; checkers list and compare.
_RCLONE = ("--transfers=8", "--checkers=16", "--retries=1", "--config=/dev/null")

Command = Callable[[Arena], Sequence[str]]


def rsync_argv(arena: Arena, source: str, *options: str) -> list[str]:
    """Given options, return the argv of an rsync over a new connection."""
    return ["rsync", *options, "-e", f"ssh -F {arena.sshd.ssh_config}", source, f"{arena.sshd.host}:{arena.target}/"]


def baseline_move(tree: Tree) -> Way[float]:
    """Return the plain way to move a tree, which proves little and flushes nothing."""
    return _way(
        "rsync --remove-source-files",
        "rsync -a --remove-source-files over a new ssh connection",
        tree,
        lambda arena: rsync_argv(arena, f"{arena.source}/", "-a", "--remove-source-files"),
        moves=True,
    )


def baseline_copy(tree: Tree) -> Way[float]:
    """Return the plain way to copy a tree."""
    return _way(
        "rsync -a",
        "rsync -a over a new ssh connection",
        tree,
        lambda arena: rsync_argv(arena, f"{arena.source}/", "-a"),
    )


def copies(tree: Tree) -> list[Way[float]]:
    """Return other ways to copy a tree, for orientation."""
    return [
        Way(
            name="tar to tar (copy only)",
            settings="tar -c . | ssh tar -x",
            run=lambda arena: _tar(arena, tree),
            most=2,
            peer=True,
        ),
        _way(
            "scp (copy only)",
            "scp -rp of the top directory, over SFTP as OpenSSH 9 does",
            tree,
            lambda arena: [
                *("scp", "-q", "-rp", "-F", str(arena.sshd.ssh_config)),
                *(str(path) for path in sorted(arena.source.iterdir())),
                f"{arena.sshd.host}:{arena.target}/",
            ],
            most=1,
            peer=True,
        ),
    ]


def slow_movers(tree: Tree) -> list[Way[float]]:
    """Return ways to move a tree that take very long for many files."""
    ways = []
    if shutil.which("rclone"):
        ways += [
            _way(
                name,
                f"rclone move, sftp backend, {' '.join((*_RCLONE, *more))}: {proof}",
                tree,
                lambda arena, more=more: [*_rclone_argv(arena), *more],  # type: ignore[misc]
                moves=True,
                most=1,
                peer=True,
            )
            for name, more, proof in (
                ("rclone move", (), "compares a hash of each file, as by default"),
                ("rclone move, no hashes", ("--sftp-disable-hashcheck",), "compares sizes only"),
            )
        ]
    sample = min(_SAMPLE, tree.files)
    ways.append(
        Way(
            name="one rsync per file",
            settings=f"rsync -a --remove-source-files with a new ssh connection for each file; {sample} files timed, "
            f"extrapolated to {tree.files:,}",
            run=lambda arena: _one_by_one(arena, tree, sample),
            most=1,
            peer=True,
        )
    )
    return ways


def _way(
    name: str,
    settings: str,
    tree: Tree,
    command: Command,
    *,
    moves: bool = False,
    most: int | None = None,
    peer: bool = False,
) -> Way[float]:
    def carry(arena: Arena) -> float:
        _prepare(arena, tree)
        seconds = run(command(arena))
        _verify(arena, tree, moves=moves)
        return seconds

    return Way(name=name, settings=settings, run=carry, most=most, peer=peer)


def _prepare(arena: Arena, tree: Tree) -> None:
    arena.target.mkdir()
    tree.make(arena.source)


def _verify(arena: Arena, tree: Tree, *, moves: bool) -> None:
    tree.check(arena.target)
    if moves:
        none_left(arena.source)
    else:
        tree.check(arena.source)


def _tar(arena: Arena, tree: Tree) -> float:
    _prepare(arena, tree)
    pack = ["tar", "-C", str(arena.source), "-c", "."]
    unpack = arena.sshd.ssh(f"exec tar -C {shlex.quote(str(arena.target))} -x")
    begin = time.monotonic()
    with (
        tempfile.TemporaryFile() as said,
        started(pack, output=said, stdout=subprocess.PIPE) as sender,
        started(unpack, output=said, stdin=sender.stdout) as receiver,
    ):
        assert sender.stdout is not None
        sender.stdout.close()
        finish(receiver, unpack, said)
        finish(sender, pack, said)
        seconds = time.monotonic() - begin
    _verify(arena, tree, moves=False)
    return seconds


def _rclone_argv(arena: Arena) -> list[str]:
    known_hosts = Path(arena.sshd.ssh_config).with_name("known_hosts")
    remote = (
        f":sftp,host={arena.sshd.host},port={arena.sshd.port},user={arena.sshd.user},"
        f"key_file={arena.sshd.key},known_hosts_file={known_hosts}:{arena.target}"
    )
    return ["rclone", "move", *_RCLONE, str(arena.source), remote]


def _one_by_one(arena: Arena, tree: Tree, sample: int) -> float:
    _prepare(arena, tree)
    begin = time.monotonic()
    for number in range(sample):
        name = tree.name(number * (tree.files // sample))
        run(rsync_argv(arena, f"{arena.source}/./{name}", "-aR", "--remove-source-files"))
    seconds = time.monotonic() - begin
    for number in range(sample):
        name = tree.name(number * (tree.files // sample))
        tree.check_file(arena.target / name, number * (tree.files // sample))
    return seconds * tree.files / sample
