"""The page of the REST API: every command that it shows is run as it is printed, on the set-up that it shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from front_sites import Served
from support import TOP

PAGE = TOP / "doc/api.rst"


def commands() -> list[str]:
    """Return the commands of the page, in their order; one may go over several lines."""
    blocks = re.findall(r"\.\. code-block:: bash\n\n((?:    .*\n|\n)+)", PAGE.read_text())
    found: list[str] = []
    for line in "".join(blocks).splitlines():
        if line.startswith("     "):
            found[-1] += "\n" + line
        elif line.strip():
            found.append(line.strip())
    return found


def test_the_commands_of_the_page_work_as_printed(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    ini = PAGE.read_text().split("global file, once ``mistamover`` runs::\n\n")[1].split("\n.. code-block")[0]
    data = tmp_path / "data"
    site = Served(tmp_path / "site")
    port = site.port
    text = site.site.global_ini.read_text()
    kept = text.split("[front]")[0]
    shown = ini.replace("/data/", f"{data}/").replace("[front]\n", f"[front]\n    port = {port}\n    dialects = rest\n")
    site.site.global_ini.write_text(kept + "\n".join(line.removeprefix("    ") for line in shown.splitlines()) + "\n")
    for name in ("local", "store"):
        (data / name).mkdir(parents=True)
    for place in (data / "local/run7.nc", tmp_path / "run7.nc"):
        place.write_bytes(b"seven " * 100)
    with site.running("front", "worker"):
        variables: dict[str, str] = {}
        last = ""
        for command in commands():
            name, equals, value = command.partition("=")
            if equals and name.isupper():
                # An id that a reader takes from the answer before.
                variables[name] = value.replace("6543", str(port)) if "://" in value else last
                continue
            answer = subprocess.run(
                ["bash", "-c", f"{command} -w '\\n%{{http_code}}'"],
                env={**site.site.environment(), **variables},
                cwd=tmp_path,
                capture_output=True,
                timeout=90,
                check=False,
            )
            said, _, status = answer.stdout.decode().rpartition("\n")
            assert answer.returncode == 0, (command, answer.stderr)
            assert status.startswith("2"), (command, said, status)
            if said.startswith("{"):
                last = json.loads(said).get("id", last)
        assert (data / "store/2026/run7.nc").read_bytes() == b"seven " * 100
        assert (tmp_path / "copy.nc").read_bytes() == (tmp_path / "run7-again.nc").read_bytes() == b"seven " * 100
        assert (tmp_path / "head.nc").read_bytes() == (b"seven " * 100)[:100]
        assert (data / "local/again/run7.nc").exists()
