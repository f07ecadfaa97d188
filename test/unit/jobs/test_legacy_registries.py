"""Registries of older services become endpoints that our configuration understands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mistamover.cli.main import main
from mistamover.config import endpoint_urls
from mistamover.errors import UsageError
from mistamover.jobs.legacy_registries import added, destinations, machines

DESTINATIONS = json.dumps(
    [
        {
            "plone": {
                "description": "The site, of tests",
                "ip-address": "plone.example.org",
                "protocol": "scp",
                "authentication": {"key-based": {"username": "bccvl"}},
            },
            "anon": {"ip-address": "10.0.0.1", "protocol": "scp", "authentication": {"key-based": {"username": ""}}},
        },
        {"plone": {"protocol": "scp", "ip-address": "second.example.org"}, "disk": {"protocol": "local"}},
    ]
)
MACHINES = """
archer:
  host: login.archer.example.org
  username: vestec
  SSHkey: id_archer
  basedir: /work/vestec
cirrus: {host: cirrus, username: x, SSHkey: /keys/id, basedir: data}
"""


def test_destinations_become_endpoints_and_the_first_of_a_name_counts() -> None:
    found = {each.name: each for each in destinations(DESTINATIONS, base="/data", local_base="/here")}
    assert found["plone"].url == "sftp://bccvl@plone.example.org/data"
    assert found["anon"].url == "sftp://10.0.0.1/data"
    assert found["disk"].url == "file:///here"
    assert found["plone"].description == "The site, of tests"


def test_machines_become_endpoints_with_their_keys() -> None:
    archer, cirrus = machines(MACHINES)
    assert archer.url == "sftp://vestec@login.archer.example.org/work/vestec"
    assert archer.identity_file == "~/.ssh/id_archer"
    assert cirrus.url == "sftp://x@cirrus/~/data"
    assert endpoint_urls.parsed(cirrus.url).base == "data"


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[1]", "nothing", '[{"a": 1}]', '[{"a": {"protocol": "ftp"}}]', '[{"a b": {"protocol": "local"}}]',
        '[{"a": {"protocol": "scp"}}]', '[{"a": {"protocol": "scp", "ip-address": "-oProxyCommand=x"}}]',
    ],
)  # fmt: skip
def test_what_is_no_registry_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError):
        destinations(text, base="/", local_base="/x")


@pytest.mark.parametrize("text", ["- a", "a: b", "a: {host: ''}", "a: {host: [1", "'a b': {host: h}"])
def test_what_is_no_list_of_machines_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError):
        machines(text)


def test_they_are_put_at_the_end_of_the_section_of_endpoints(tmp_path: Path) -> None:
    ini = "[global]\nx = 1\n[endpoints]\n  [[old]]\n  url = file:///old\n\n# about the front\n[front]\nport = 1\n"
    found = machines(MACHINES)
    text = added(ini, found)
    assert text.index("[[old]]") < text.index("[[archer]]") < text.index("# about the front")
    assert text.count("[endpoints]") == 1
    with pytest.raises(UsageError, match="archer"):
        added(text, found)
    assert added("[global]\n", found).startswith("[global]\n\n[endpoints]\n  [[archer]]\n")


def test_the_commands_print_them_and_write_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry, yaml, ini = tmp_path / "d.json", tmp_path / "m.yaml", tmp_path / "global.ini"
    registry.write_text(DESTINATIONS)
    yaml.write_text(MACHINES)
    ini.write_text("[front]\nenabled = True\n")
    ini.chmod(0o640)
    assert main(["import-destinations", str(registry), "--base", "/data", "--local-base", "/here"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('[endpoints]\n  [[plone]]\n  description = "The site, of tests"\n')
    assert main(["import-machines", str(yaml), "--into", str(ini)]) == 0
    assert "[[cirrus]]" in ini.read_text()
    assert ini.stat().st_mode & 0o777 == 0o640
    assert main(["import-machines", str(yaml), "--into", str(ini)]) == 2
    assert main(["import-destinations", str(registry)]) == 2
    assert main(["import-destinations", str(tmp_path / "none")]) == 1
