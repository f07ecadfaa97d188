"""Agents as they were: what deployed senders and arrival monitors do, byte for byte, defects included.

Written from what was observed of them.  Each does one step at a time when it is told to.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from mistamover.testing.sshd import PrivateSshd

CTRL, RCPT, THANKS = "stager-ctrl-bss", "stager-rcpt-bss", "stager-thanks-bss"


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


class OldSender:
    """Pushes data and control file by one rsync (which sends the dot-file first), and believes any receipt."""

    def __init__(self, directory: Path, target: Path, sshd: PrivateSshd, *, poll: float = 1.0, polls: int = 5) -> None:
        self.directory, self.target, self._sshd, self._poll, self._polls = directory, target, sshd, poll, polls
        self.pushes = 0

    def send(self, name: str) -> bool:
        """Send one file; return whether it was removed here afterwards."""
        data = self.directory / name
        receipt = f".{name}.{time.time():.2f}.{RCPT}"
        control = self.directory / f".{name}.{CTRL}"
        control.write_text(
            f"_start_stager_ctrl_data_\n{name}\n{data.stat().st_size}\n{_md5(data)}\n{receipt}\n_end_stager_ctrl_data_\n"
        )
        self._rsync("-avz", str(data), str(control), f"{self._sshd.host}:/{self.target}/")
        self.pushes += 1
        for _ in range(self._polls):
            time.sleep(self._poll)
            got = self._rsync(f"{self._sshd.host}:/{self.target}/{receipt}", f"{self.directory}/", check=False)
            if got == 0:
                (self.directory / receipt).unlink()
                data.unlink()
                control.unlink()
                return True
        return False

    def _rsync(self, *words: str, check: bool = True) -> int:
        argv = ["rsync", "-e", f"ssh -F {self._sshd.ssh_config}", *words]
        return subprocess.run(argv, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


class OldMonitor:
    """Looks at its incoming directory once when told to; removes data that are not as announced, and says so."""

    def __init__(self, incoming: Path, data: Path, *, spoil: Callable[[bytes], bytes] | None = None) -> None:
        self.incoming, self.data, self._spoil = incoming, data, spoil
        self.answered: list[tuple[str, int]] = []

    def poll(self) -> None:
        """Do one round: the oldest file first."""
        for path in sorted(self.incoming.iterdir(), key=lambda p: p.lstat().st_mtime):
            if path.name.endswith(f".{CTRL}") and path.name.startswith("."):
                self._control(path)
            elif path.name.endswith(f".{THANKS}") and path.name.startswith("."):
                self._thanks(path)

    def _control(self, path: Path) -> None:
        lines = path.read_text(errors="surrogateescape").split("\n")
        if lines[0] != "_start_stager_ctrl_data_" or lines[5] != "_end_stager_ctrl_data_" or len(lines) != 7:
            return
        name, size, md5, receipt = lines[1:5]
        item = self.incoming / name
        status, actual, found = 0, -1, ""
        if not item.exists():
            status = 4
        else:
            actual, found = item.stat().st_size, _md5(item)
            if actual != int(size):
                status = 1
            elif found != md5:
                status = 2
            if status == 0:
                item.rename(self.data / name)
            else:
                item.unlink()
        path.unlink()
        self.answered.append((name, status))
        thanks = f".{name}.{time.time():.2f}.{THANKS}"
        text = (
            f"_start_stager_receipt_data_\n{name}\n{status}\n{actual}\n{found}\n{thanks}\n_end_stager_receipt_data_\n"
        )
        content = text.encode("utf-8", "surrogateescape")
        if self._spoil is not None:
            content = self._spoil(content)
        temporary = self.incoming / (receipt + "_tmp")
        temporary.write_bytes(content)
        os.rename(temporary, self.incoming / receipt)

    def _thanks(self, path: Path) -> None:
        lines = path.read_text(errors="surrogateescape").split("\n")
        if lines[0] == "_start_stager_thankyou_" and lines[2] == "_end_stager_thankyou_":
            (self.incoming / lines[1]).unlink()
            path.unlink()
