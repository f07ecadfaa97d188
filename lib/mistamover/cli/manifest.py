"""Manifests: the history in the form that `md5sum -c` and its like read in the target directory.

Names go out as the bytes they are; only what would break a line is escaped, as GNU's tools do it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from mistamover.cli.common import plural, printable, reading
from mistamover.cli.selection import Selection, select
from mistamover.config.settings import StreamSettings, TransferMode, TransferUnit
from mistamover.errors import UsageError
from mistamover.model import Kind
from mistamover.stream.ledger import Delivery, Ledger

_COMMANDS = {"md5": "md5sum", "sha1": "sha1sum", "sha256": "sha256sum", "xxh128": "xxh128sum"}

_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}


def write_manifest(
    streams: Sequence[StreamSettings], selection: Selection, out: BinaryIO, note: Callable[[str], None]
) -> None:
    """Given one stream and what is wanted of it, write its manifest to `out`, and what to do with it to `note`.

    Raise UsageError when it would speak of several streams or hold hashes of several kinds, LedgerError when the
    history cannot be read.
    """
    if len(streams) != 1:
        names = ", ".join(printable(stream.name) for stream in streams)
        raise UsageError(f"a manifest is for one target directory: name one stream ({names or 'there are none'})")
    stream = streams[0]
    with reading(stream.state_dir) as ledger:
        latest = list(_latest(stream, ledger, selection, note)) if ledger is not None else []
    wanted = list(itertools.islice(select(latest, selection), selection.limit))
    algorithms = sorted({delivery.algorithm for delivery in wanted})
    if len(algorithms) > 1:
        raise UsageError(
            f"the files have hashes of several kinds ({', '.join(algorithms)}): choose one with --algorithm, "
            f"and make a manifest for each"
        )
    for delivery in wanted:
        out.write(line(delivery.digest, delivery.name))
    out.flush()
    note(_how_to_read(stream, len(wanted), algorithms))


def line(digest: str, name: bytes) -> bytes:
    r"""Given a hash and a name, return the line of a manifest; a leading backslash says that the name is escaped."""
    if name == b"-":
        # As it is, it would mean standard input.
        name = b"./-"
    escaped = name
    for plain, escape in _ESCAPES.items():
        escaped = escaped.replace(plain, escape)
    mark = b"\\" if escaped != name else b""
    return mark + digest.encode() + b"  " + escaped + b"\n"


def _latest(
    stream: StreamSettings, ledger: Ledger, selection: Selection, note: Callable[[str], None]
) -> Iterator[Delivery]:
    """Yield for each name its latest delivery to the target of today, if that was a file with a hash."""
    target = stream.targets[0].name if stream.targets else None
    removed = _removed_at_target(stream, ledger, target)
    seen: set[bytes] = set()
    elsewhere = 0
    for delivery in ledger.history(since=selection.since):
        if target is not None and delivery.target != target:
            elsewhere += 1
        elif delivery.name not in seen:
            seen.add(delivery.name)
            if delivery.kind is Kind.FILE and delivery.digest and not removed(delivery.name):
                yield delivery
    if elsewhere:
        note(f"left out: {plural(elsewhere, 'record')} of deliveries to another target than {printable(target or '')}")


def _removed_at_target(stream: StreamSettings, ledger: Ledger, target: str | None) -> Callable[[bytes], bool]:
    """A mirror that removes at its target what is gone here remembers what should be there."""
    if target is None or stream.mode is not TransferMode.MIRROR or not stream.mirror_delete:
        return lambda name: False
    present = {name for name, _ in ledger.all_mirrored(target)}
    if stream.unit is TransferUnit.DIRECTORY:
        return lambda name: name.partition(b"/")[0] not in present
    return lambda name: name not in present


def _how_to_read(stream: StreamSettings, number: int, algorithms: Sequence[str]) -> str:
    if not number:
        return f"nothing that was delivered by {stream.name} matches: the manifest is empty"
    command = _COMMANDS.get(algorithms[0], f"{algorithms[0]}sum")
    where = ""
    if stream.targets:
        where = f" (on {printable(stream.targets[0].host)}: {printable(stream.targets[0].directory)})"
    text = f"{plural(number, 'file')}; to check them, run in the target directory{where}: {command} -c MANIFEST"
    return text + ("; it comes with the package xxhash" if command == "xxh128sum" else "")
