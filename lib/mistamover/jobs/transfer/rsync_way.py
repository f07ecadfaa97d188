"""Large files between this host and an ssh endpoint by rsync, where both ends have it.

An endpoint may want another way: `options = via=sftp`.  Measured over the loopback neither is clearly quicker.  rsync
writes straight into the temporary name (`--inplace`), so that it leaves nothing that nobody knows.  That it says
"done" proves nothing here: what arrived is compared as after any other way.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

from mistamover.errors import LinkError
from mistamover.files.durable import begin_writing
from mistamover.jobs.transfer.origins import FarOrigin, Origin
from mistamover.jobs.transfer.places import Place, Visit
from mistamover.links import process as processes
from mistamover.transport.far import FarRefusal
from mistamover.transport.local_streaming import StreamingLocal
from mistamover.transport.rsync_output import parse_progress
from mistamover.transport.rsync_terms import explain

#: From this size on a program of its own is worth starting.
FROM: Final = 8 << 20

#: Of an endpoint: how large files go, `auto` (which is rsync where that can be) or `sftp`.
OPTION: Final = "via"

#: Seconds without any output after which rsync gives up by itself, and the longest that it may say nothing to us.
_SILENCE = 120

#: Bytes after which the disk is asked to begin with what has come.
_STRIDE = 16 << 20

_WORDS = (
    "rsync", "--inplace", "--whole-file", "-s", "-8", "--outbuf=L", "--info=progress2",
    f"--timeout={_SILENCE}",
)  # fmt: skip


#: What a descriptor stands for; nowhere else a link is followed.
_LINKS = ("--copy-links",)

#: rsync takes these in the name of a source at the far end for a pattern, and may find other files by it.
_PATTERN: Final = frozenset(b"*?[\\")


def fits(origin: Origin, visit: Visit) -> Place | None:
    """Given what is to be copied, and a connection to its target, return the ssh endpoint at one end whose rsync does
    it, None if it goes another way.  Raise LinkError.
    """
    if origin.size is None or origin.size < FROM:
        return None
    if origin.handle is not None:
        place = visit.place
    elif isinstance(origin, FarOrigin) and isinstance(visit.far, StreamingLocal):
        place = origin.visit.place
    else:
        return None
    if place.shell is None or place.settings.options.get(OPTION) == "sftp" or shutil.which("rsync") is None:
        return None
    if isinstance(origin, FarOrigin) and _PATTERN.intersection(origin.visit.absolute(origin.name)):
        return None
    # What comes from there is hashed there as well: to read it once more from here would take as long again.
    needed = ("rsync",) if origin.handle is not None else ("rsync", "python3")
    return place if all(map(place.shell.has, needed)) else None


def copy(place: Place, origin: Origin, visit: Visit, name: bytes, told: Callable[[int], None]) -> None:
    """Given what `fits` returned, what is to be copied, a connection to the target and a temporary name there, copy.

    Raise LinkError, TargetError, and what `told` does.
    """
    ours = f"/proc/{os.getpid()}/fd/"
    if origin.handle is not None:
        paths = [f"{ours}{origin.handle}".encode(), _far(place, visit.absolute(name))]
        _run(place, [*_WORDS, *_LINKS], paths, told)
        return
    assert isinstance(origin, FarOrigin) and isinstance(visit.far, StreamingLocal)
    # The directory by its descriptor, so that nobody can put a link in its place meanwhile.
    with visit.far.directory(name) as handle:
        last = name.rpartition(b"/")[2]
        begun = 0

        def telling(done: int) -> None:
            nonlocal begun
            told(done)
            if done - begun >= _STRIDE:
                _begin_writing(handle, last, begun, done - begun)
                begun = done

        there = f"{ours}{handle}/".encode() + last
        _run(place, _WORDS, [_far(place, origin.visit.absolute(origin.name)), there], telling)


def _begin_writing(directory: int, name: bytes, offset: int, length: int) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            begin_writing(handle, offset, length)
        finally:
            os.close(handle)


def _far(place: Place, path: bytes) -> bytes:
    host = place.settings.host
    return f"[{host}]:".encode() + path if ":" in host else f"{host}:".encode() + path


def _run(place: Place, words: Sequence[str], paths: Sequence[bytes], told: Callable[[int], None]) -> None:
    assert place.end.link is not None
    with place.end.link.rsync_shell() as shell:
        argv = [*words, "-e", shell, "--", *map(os.fsdecode, paths)]
        process = processes.spawn(argv, directory=place.run_dir, stdin=subprocess.DEVNULL)
        try:
            said = _listen(process, told)
            status = process.wait(_SILENCE)
        except subprocess.TimeoutExpired:
            raise LinkError("rsync does not come to its end") from None
        finally:
            processes.end(process)
    if status:
        words = " ".join(said.decode("utf-8", "backslashreplace").split())[-300:]
        if status in (3, 23):
            raise FarRefusal(f"rsync: {words or status}")
        raise explain(f"rsync ended with status {status}: {words}")


def _listen(process: subprocess.Popen[bytes], told: Callable[[int], None]) -> bytes:
    """Tell how far it is, until it says nothing more; return what it complained of."""
    assert process.stdout is not None and process.stderr is not None
    out, errors = process.stdout.fileno(), process.stderr.fileno()
    complaints, done, silent = b"", 0, 0
    open_ones = {out, errors}
    while open_ones:
        ready = select.select(list(open_ones), [], [], 1.0)[0]
        silent = 0 if ready else silent + 1
        if silent > 2 * _SILENCE:
            raise LinkError(f"rsync has said nothing for {silent} s")
        for handle in ready:
            chunk = os.read(handle, 1 << 16)
            if not chunk:
                open_ones.discard(handle)
            elif handle == errors:
                complaints = (complaints + chunk)[-4096:]
            else:
                done = parse_progress(chunk) or done
        told(done)
    return complaints
