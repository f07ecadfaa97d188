"""The page of transcripts is typed anew, line by line, against a service that one command has started."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import legacy_sites as fronts
from legacy_sites import HttpSource
from mistamover.testing.sshd import PrivateSshd, free_port

PAGE = Path(__file__).parents[2] / "doc/job-transcripts.rst"
LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SAID = "--- said ---"


def blocks(text: str, beginning: str) -> list[str]:
    """Given a page and the line that begins a block, return what is indented below each such line."""
    found = []
    for part in text.split(f"\n{beginning}\n")[1:]:
        lines = part.split("\n")
        end = next((n for n, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
        found.append(textwrap.dedent("\n".join(lines[:end])).strip("\n"))
    return found


def _goes_on(command: str) -> bool:
    """Tell whether a document in a command has not come to its end."""
    return "<<END" in command and not command.endswith("\nEND")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, sshd: PrivateSshd) -> Iterator[str]:
    """The page, with the paths, ports and hosts of a service that runs."""
    directory = tmp_path_factory.mktemp("transcripts")
    place = fronts.site(directory / "site", sshd)
    (place.local / "forecast").mkdir()
    (place.local / "forecast/wind.nc").write_bytes(b"nine byte")
    for name, content in (("foo.txt", b"foo\n"), ("bar.csv", b"a,b\n"), ("baz.ini", b"")):
        (place.tape / name).write_bytes(content)
    port = free_port()
    with HttpSource() as source:
        source.files |= {"/koala.csv": b"species,lon,lat\n", "/private/koala.csv": b"species\n"}
        text = PAGE.read_text()
        for printed, real in (
            ("port = 6543", f"port = {port}\n    allow_private_addresses = True"),
            ("localhost:6543", f"localhost:{port}"),
            # Not every host of tests has that program.
            ("$(uuidgen)", "$(cat /proc/sys/kernel/random/uuid)"),
            ("http://data.example.org", source.url),
            ("user@hpc1.example.org/scratch/data", f"{sshd.user}@{sshd.host}:{sshd.port}{place.remote}"),
            ("/etc/mistamover/ssh_config", str(sshd.ssh_config)),
            ("/data/local", str(place.local)),
            ("/data/archive", str(place.tape)),
            ("/var/lib/mistamover", str(directory / "state")),
            ("/var/log/mistamover", str(directory / "log")),
        ):
            assert printed in text, printed
            text = text.replace(printed, real)
        (directory / "global.ini").write_text(blocks(text, "The whole set-up is a global file::")[0] + "\n")
        command = [sys.executable, "-m", "mistamover", str(directory / "global.ini")]
        log = (directory / "service.log").open("wb")
        with log, subprocess.Popen(command, env={**os.environ, "PYTHONPATH": fronts.LIB}, stderr=log) as service:
            try:
                fronts.until(lambda: service.poll() is not None or fronts.answers(port))
                assert service.poll() is None, (directory / "service.log").read_text()
                yield text
            finally:
                service.terminate()
                assert service.wait(fronts.DEADLINE) == 0


def test_the_session_in_python(page: str) -> None:
    session = "\n\n".join(blocks(page, ".. code-block:: pycon"))
    assert session.count(">>> ") > 10
    example = doctest.DocTestParser().get_doctest(session, {}, PAGE.name, str(PAGE), 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=LOOSE, verbose=False)
    runner.run(example, out=said.append, clear_globs=False)
    example.globs["s"]("close")()
    assert not said, "".join(said)


def test_the_lines_of_the_shell(page: str, tmp_path: Path) -> None:
    commands: list[str] = []
    wanted: list[str] = []
    for line in "\n".join(blocks(page, ".. code-block:: console")).split("\n"):
        if line.startswith("$ "):
            commands.append(line[2:])
            wanted.append("")
        elif commands and (commands[-1].endswith("\\") or _goes_on(commands[-1])):
            commands[-1] += f"\n{line}"
        else:
            wanted[-1] += f"{line}\n"
    assert len(commands) > 20
    script = "\n".join(f"{command}\necho; echo '{SAID}'" for command in commands)
    ran = subprocess.run(
        ["bash", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=3 * fronts.DEADLINE
    )
    said = ran.stdout.split(f"{SAID}\n")
    checker = doctest.OutputChecker()
    for command, want, got in zip(commands, wanted, said, strict=False):
        assert checker.check_output(want or "\n", got.strip("\n") + "\n", LOOSE), f"$ {command}\n{got}"
    assert ran.returncode == 0, ran.stderr
    assert len(said) == len(commands) + 1
