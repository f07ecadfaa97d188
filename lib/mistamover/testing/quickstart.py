"""The demonstration behind `bin/quickstart`: the main job, done for real, in a scratch area of its own.

It starts a private ssh server and the agent, drops files while the agent runs, and compares by itself what
arrived with what was dropped.  The exit status is 0 only if nothing differs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mistamover.testing import demo_data
from mistamover.testing.demo_data import Comparison, Drop, Dropped
from mistamover.testing.demo_site import Area, DemoFailed, pause, run, running_agent, scratch, shown_command, status
from mistamover.testing.sshd import PrivateSshd, available
from mistamover.testing.terminal import Progress, amount, heading, table

#: Seconds for everything to travel.
TRAVEL_DEADLINE: Final = 90.0
#: Seconds for the dropping thread to end when it is told to.
JOIN_DEADLINE: Final = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Given the command line, run the demonstration; return the exit status."""
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        return _demonstrate(options.keep, stay=options.stay)
    except DemoFailed as error:
        print(f"\nquickstart: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nquickstart: interrupted; everything is stopped.", file=sys.stderr)
        return 130


def _demonstrate(keep: Path | None, *, stay: bool) -> int:
    """Given where to work (None: a temporary directory), do the whole demonstration; return the exit status."""
    reason = available()
    if reason:
        raise DemoFailed(f"{reason} (bin/quickstart installs it when run as root)")
    with contextlib.ExitStack() as stack:
        area = Area(stack.enter_context(scratch(keep)))
        server = stack.enter_context(PrivateSshd(area.top / "sshd"))
        area.prepare(server)
        _introduce(area, server)
        print(heading(f"{shown_command()} {area.global_ini}"), flush=True)
        agent = stack.enter_context(running_agent(area))
        print(f"  running, process {agent.pid}", flush=True)
        record, removed_at = _drop_and_watch(area, agent, stack)
        started = time.monotonic()
        result = demo_data.compare(record.files, area.source, area.target)
        _report(record, result, travel=removed_at - record.started, hashing=time.monotonic() - started)
        _show_history(area)
        same = _explain_differences(record.files, result)
        _where_next(area, kept=keep is not None)
        if stay:
            _stay(area, agent)
    return 0 if same else 1


def _drop_and_watch(area: Area, agent: subprocess.Popen[bytes], stack: contextlib.ExitStack) -> tuple[Drop, float]:
    """Drop files in a thread and show progress until none is left at the source, or the deadline has passed.

    Return what was dropped, and when the last of it was gone.
    """
    print(heading("Files are dropped while the agent runs"))
    record, stop = Drop(), threading.Event()
    dropper = threading.Thread(target=demo_data.drop, args=(area.source, record, stop), name="dropper")
    dropper.start()
    stack.callback(dropper.join, JOIN_DEADLINE)
    stack.callback(stop.set)  # called before the join
    deadline = time.monotonic() + TRAVEL_DEADLINE
    with Progress() as progress:
        while time.monotonic() < deadline:
            progress.show(_progress_line(record, area))
            if record.error is not None:
                raise DemoFailed(f"cannot drop files: {record.error}")
            if record.finished is not None and not demo_data.left(record.files, area.source):
                break
            pause(agent, area)
        progress.show(_progress_line(record, area), last=True)
    return record, time.monotonic()


def _progress_line(record: Drop, area: Area) -> str:
    """Return one line about what was dropped and what the agent says of it."""
    seconds = f"{time.monotonic() - (record.started or time.monotonic()):4.1f} s"
    stream = next(iter((status(area) or {}).get("streams", ())), None)
    if not stream:
        return f"{seconds}   dropped {len(record.files):3}"
    return (
        f"{seconds}   dropped {len(record.files):3}   waiting {stream.get('waiting', 0):3}"
        f"   sending {stream.get('sending', 0):3}   delivered {stream.get('delivered', 0):3}"
        f"   {amount(stream.get('bytes_delivered', 0)):>8}   {stream.get('last_error') or stream.get('state', '')}"
    )


def _report(record: Drop, result: Comparison, *, travel: float, hashing: float) -> None:
    """Print the table of what was dropped, delivered, verified and removed."""
    dropping = (record.finished or time.monotonic()) - record.started
    rows = (
        ("dropped", record.files, dropping, "written into the watched directory"),
        ("delivered", result.delivered, travel, "there under their final names"),
        ("verified", result.verified, hashing, "hashed here again: the same bytes"),
        ("removed", result.removed, travel, "gone from the source"),
    )
    print(heading("Result"))
    print(
        table(
            ("", "files", "bytes", "seconds", ""),
            [(what, str(len(files)), amount(_size(files)), f"{took:.1f}", words) for what, files, took, words in rows],
        )
    )


def _explain_differences(files: list[Dropped], result: Comparison) -> bool:
    """Print every file that is not delivered, verified and removed; return whether there is none."""
    bad = False
    for words, good in (
        ("not at the target", result.delivered),
        ("differs at the target", [*result.verified, *(file for file in files if file not in result.delivered)]),
        ("still at the source", result.removed),
    ):
        for file in files:
            if file not in good:
                bad = True
                print(f"  DIFFERENT: {os.fsdecode(file.name)!a}: {words}")
    print(f"\n{'Something differs; see above.' if bad else 'Every file arrived whole, and only then left the source.'}")
    return not bad


def _show_history(area: Area, lines: int = 6) -> None:
    """Print the first lines of `mistamover history`."""
    print(heading(f"{shown_command()} history -c {area.global_ini}"))
    answer = run(area, "history")
    shown = (answer.stdout if answer.returncode == 0 else answer.stderr or answer.stdout).splitlines()
    for line in shown[:lines]:
        print(f"  {line}")
    if len(shown) > lines:
        print(f"  ... and {len(shown) - lines} lines more")


def _introduce(area: Area, server: PrivateSshd) -> None:
    """Print what runs where, and the two INI files."""
    print(heading("A private ssh server and two INI files"))
    print(f"  ssh server   {server.host}:{server.port}, with its own keys\n  scratch area {area.top}")
    for path in (area.global_ini, area.stream_ini):
        print(f"\n  # {path}")
        print("\n".join(f"  {line}".rstrip() for line in path.read_text().splitlines()), flush=True)


def _where_next(area: Area, *, kept: bool) -> None:
    """Print what to read and to try next."""
    print(heading("Where to go next"))
    print("  README.rst          a tutorial of five minutes with your own directories")
    print("  conf/               templates of global.ini, a move stream and a mirror stream")
    print("  conf/systemd/       the service, hardened and explained line by line")
    print("  doc/                how it works, every configuration key, every command")
    if kept:
        print(f"  {area.top}   everything of this demonstration, kept")


def _stay(area: Area, agent: subprocess.Popen[bytes]) -> None:
    """Leave the agent and the ssh server running until Ctrl-C."""
    print(heading("Still running; Ctrl-C ends it"))
    print(f"  drop files into  {area.source}")
    print(f"  they arrive in   {area.target}")
    print(f"  ask              {shown_command()} status -c {area.global_ini}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        agent.wait()  # the user ends it, or it ends by itself


def _size(files: Sequence[Dropped]) -> int:
    return sum(file.size for file in files)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bin/quickstart", description="See MiStaMover do its main job.")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="work there and leave everything there")
    parser.add_argument("--stay", action="store_true", help="keep the agent and the ssh server running until Ctrl-C")
    return parser


if __name__ == "__main__":
    sys.exit(main())
