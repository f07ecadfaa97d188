"""A site whose front and worker run as processes of their own."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import engines
from support import Site, free_port, wait_until


class Served:
    """A site whose front listens."""

    def __init__(self, directory: Path, **front: object) -> None:
        self.port = free_port()
        self.data = directory / "data"
        own = {"port": self.port, "anonymous": "submit", "dialects": "rest", **front}
        self.site = Site(directory, front=own, engine=engines.current.keys())
        (self.data / "in").mkdir()
        with self.site.global_ini.open("a") as ini:
            ini.write(f"[endpoints]\n  [[here]]\n  url = file://{self.data}\n")

    def start(self, program: str) -> subprocess.Popen[bytes]:
        """Start the front or the worker."""
        words = self.site.command(program, "-c", str(self.site.global_ini))
        with (self.site.directory / f"{program}.out").open("ab") as sink:
            return subprocess.Popen(
                words, env=self.site.environment(), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )

    @contextmanager
    def running(self, *programs: str) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Run them until the end of the block; they are told to stop, and do so well."""
        started = [self.start(program) for program in programs]
        try:
            if "front" in programs:
                wait_until(lambda: self.listens() or started[0].poll() is not None, 30, "the front listens")
            yield started
            for process in started:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(30) == 0, self.said()
        finally:
            for process in started:
                process.kill()
                process.wait(10)

    def listens(self) -> bool:
        """Tell whether somebody takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def said(self) -> str:
        """Return what the processes printed."""
        return "".join(file.read_text(errors="replace") for file in self.site.directory.glob("*.out"))

    def job(self, *words: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command `job`."""
        return subprocess.run(
            self.site.command("job", *words),
            env={**self.site.environment(), "MISTAMOVER_CONFIG": str(self.site.global_ini), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
