"""The configurations that are shipped: files for containers, units of systemd, and the INI files that they name."""

from __future__ import annotations

import argparse
import configparser
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mistamover.cli.main import COMMANDS
from mistamover.config.load import load
from mistamover.config.settings import Settings
from support import TOP, answer

CONF = TOP / "conf"
COMPOSED = sorted((CONF / "compose").glob("*/compose.yaml"))
UNITS = sorted((CONF / "systemd").glob("*.service"))
DROP_INS = sorted((CONF / "systemd").glob("*.d/*.conf"))
INSTALLED = "/opt/mistamover/bin/mistamover"


def name_of(path: Path) -> str:
    return str(path.relative_to(CONF))


def composed(path: Path) -> dict[str, Any]:
    made = yaml.safe_load(path.read_text())
    assert isinstance(made, dict)
    return made


def services(path: Path) -> Mapping[str, Any]:
    return dict(composed(path)["services"])


def is_ours(service: Mapping[str, Any]) -> bool:
    return "build" in service


def understood(words: list[str]) -> argparse.Namespace:
    """Given the words after the program's name, return them parsed as the program does; fail if it would not."""
    if words[0] not in COMMANDS:
        from mistamover.cli import run

        parser = argparse.ArgumentParser(exit_on_error=False)
        run.configure(parser)
        return parser.parse_args(words)
    parser = argparse.ArgumentParser(prog=words[0])
    importlib.import_module(f"mistamover.cli.{words[0]}").configure(parser)
    return parser.parse_args(words[1:])


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script makes, for our own user."""
    made = tmp_path_factory.mktemp("made") / "secrets"
    own = {name: str(os.getuid()) for name in ("MISTAMOVER_UID", "POSTGRES_UID", "RABBITMQ_UID")}
    script = CONF / "compose/make-secrets"
    for _ in range(2):
        subprocess.run([script, made, "front.example.org"], env={**os.environ, **own}, check=True, timeout=60)
    return made


@pytest.fixture
def installed(tmp_path: Path, secrets: Path) -> Iterator[Path]:
    """A directory in which shipped INI files are as they would be where they belong."""
    shutil.copytree(secrets, tmp_path / "secrets")
    for file, source in (
        ("front.crt", "front_certificate"),
        ("front.key", "front_key"),
        ("database.password", "database_password"),
        ("broker.password", "broker_password"),
    ):
        (tmp_path / file).write_bytes((secrets / source).read_bytes())
        (tmp_path / file).chmod(0o600)
    yield tmp_path


def accepted(file: Path, installed: Path) -> Settings:
    """Given a shipped INI file, return its settings when it is installed; `check` has to take it, too."""
    places = {
        "/run/secrets": installed / "secrets",
        "/etc/mistamover": installed,
        "/var/lib/mistamover": installed / "state",
        "/srv/carts": installed / "carts",
        "file:///data": installed / "data",
        "file:///scratch": installed / "scratch",
    }
    for name in ("data", "scratch"):
        (installed / name).mkdir()
    text = file.read_text()
    for place, here in places.items():
        scheme = "file://" if place.startswith("file:") else ""
        text = text.replace(f"{place}/", f"{scheme}{here}/").replace(f"{place}\n", f"{scheme}{here}\n")
    # Database and broker are not there: nobody is asked for their names.
    text = re.sub(r"(://mistamover)@[a-z.]+(:\d+)?/", r"\1@127.0.0.1:1/", text)
    if "state_dir = " not in text:
        text = text.replace("[global]\n", f"[global]\nstate_dir = {installed / 'state'}\n")
    copy = installed / file.name
    copy.write_text(text)
    settings = load(copy, {})
    # In the network of the containers, which has no way out, the broker is spoken to in the clear.
    assert [line for line in settings.warnings if "broker_url: the password travels in the clear" not in line] == []
    done = answer(["check", "-c", str(copy)], installed)
    assert done.stderr == ""
    assert done.returncode == (1 if "127.0.0.1:1/" in text else 0), done.stdout
    return settings


@pytest.mark.parametrize("file", [*sorted((CONF / "compose").glob("*/*.ini")), CONF / "examples/jobs.ini"], ids=name_of)
def test_every_key_is_known_and_every_value_taken(file: Path, installed: Path) -> None:
    settings = accepted(file, installed)
    assert settings.jobs is not None
    front = settings.jobs.front
    assert front.certificate is not None and front.anonymous == "none"
    assert settings.jobs.endpoints
    # Nobody's password may be in a file that everybody may read.
    assert not re.search(r"://[^@\s/]*:[^@\s/]*@", file.read_text())


def test_a_key_that_is_not_known_would_be_seen(installed: Path, tmp_path: Path) -> None:
    file = tmp_path / "shipped.ini"
    file.write_text((CONF / "compose/one/global.ini").read_text().replace("port = ", "prt = "))
    with pytest.raises(Exception, match="prt"):
        accepted(file, installed)


@pytest.mark.parametrize("file", COMPOSED, ids=name_of)
def test_what_is_named_is_there(file: Path, secrets: Path) -> None:
    whole, made = composed(file), {path.name for path in secrets.iterdir()}
    for name, secret in whole["secrets"].items():
        assert Path(secret["file"]).name in made, name
    for name, service in services(file).items():
        if is_ours(service):
            context = (file.parent / service["build"]["context"]).resolve()
            assert context == TOP
            assert (context / service["build"]["dockerfile"]).is_file()
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (file.parent / source).is_file(), (name, volume)
            else:
                assert source in whole["volumes"], (name, volume)
        used = [secret if isinstance(secret, str) else secret["source"] for secret in service.get("secrets", ())]
        assert set(used) <= set(whole["secrets"]), name
        assert set(service.get("networks", ())) <= set(whole.get("networks", ())), name
        assert set(service.get("depends_on", ())) <= set(services(file)), name
    ini = (file.parent / "global.ini").read_text()
    for service in filter(is_ours, services(file).values()):
        assert set(re.findall(r"/run/secrets/(\w+)", ini)) <= set(service["secrets"])


@pytest.mark.parametrize("file", COMPOSED, ids=name_of)
def test_nothing_is_open_and_no_secret_is_shown(file: Path) -> None:
    published = []
    for name, service in services(file).items():
        published += [(name, port) for port in service.get("ports", ())]
        for key, value in (service.get("environment") or {}).items():
            assert "PASS" not in key or (key.endswith("_FILE") and value.startswith("/run/secrets/")), (name, key)
        assert "env_file" not in service and "privileged" not in service
        if is_ours(service):
            assert service["cap_drop"] == ["ALL"] and service["read_only"] is True
            assert "user" not in service, "the image's own is not root"
    (only,) = published
    assert only[0] in ("front", "mistamover") and only[1].startswith("127.0.0.1:")
    if "networks" in composed(file):
        assert composed(file)["networks"]["inside"] == {"internal": True}
        for name in ("database", "broker"):
            assert services(file)[name]["networks"] == ["inside"]


@pytest.mark.parametrize("file", COMPOSED, ids=name_of)
def test_the_commands_of_containers_are_the_programs(file: Path) -> None:
    for name, service in services(file).items():
        if not is_ours(service):
            continue
        parsed = understood(service.get("command", ["/etc/mistamover/global.ini"]))
        assert str(parsed.config) == "/etc/mistamover/global.ini", name
        assert "./global.ini:/etc/mistamover/global.ini:ro" in service["volumes"]
        check = service.get("healthcheck", {}).get("test", ["CMD", "mistamover", "db", "check"])
        assert check[0] == "CMD" and check[1] in ("mistamover", "mistamover-healthy")
        if check[1] == "mistamover":
            understood(check[2:])
        stop = int(service["stop_grace_period"].removesuffix("s"))
        assert stop > 30, "more than stop_timeout, for what is under way"


def test_three_workers_have_state_directories_of_their_own_and_one_the_front_s() -> None:
    found = services(CONF / "compose/workers/compose.yaml")

    def state(name: str) -> str:
        (volume,) = (each for each in found[name]["volumes"] if each.endswith(":/var/lib/mistamover"))
        return str(volume)

    workers = [name for name in found if name.startswith("worker-")]
    assert len({state(name) for name in workers}) == len(workers) == 3
    assert state("front") == state("worker-1")
    assert len({found[name]["hostname"] for name in workers}) == 3
    for name in workers:
        carts = [volume for volume in found[name]["volumes"] if volume.endswith(":/srv/carts")]
        assert carts == [volume for volume in found["front"]["volumes"] if volume.endswith(":/srv/carts")]


def test_the_image_is_not_root_and_installs_what_there_is() -> None:
    text = (CONF / "compose/Dockerfile").read_text()
    stages = text.split("\nFROM ")
    assert re.search(r"^USER mistamover$", stages[-1], re.MULTILINE)
    (extras,) = re.findall(r"\$wheel\[([a-z,0-9]+)\]", text)
    known = configparser.ConfigParser()
    known.read(TOP / "setup.cfg")
    assert set(extras.split(",")) <= set(known["options.extras_require"])
    for copied in re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE):
        assert (TOP / copied).exists(), copied


def test_secrets_are_private_and_made_once(secrets: Path) -> None:
    assert {path.name for path in secrets.iterdir()} == {
        "database_password", "postgres_password", "broker_password", "rabbitmq_login", "front_key", "front_certificate",
    }  # fmt: skip
    for path in secrets.iterdir():
        assert path.stat().st_mode & 0o777 == 0o400, path
    password = (secrets / "database_password").read_text().strip()
    assert len(password) == 48 and (secrets / "postgres_password").read_text().strip() == password
    login = (secrets / "rabbitmq_login").read_text().splitlines()
    assert login == ["default_user = mistamover", f"default_pass = {(secrets / 'broker_password').read_text().strip()}"]


# -- systemd ----------------------------------------------------------------------------------


def keys_of(path: Path) -> list[tuple[str, str]]:
    """Given a unit, return its keys and values in order."""
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith(("#", "[")))
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)]


@pytest.mark.parametrize("unit", [*UNITS, *DROP_INS], ids=lambda path: path.name)
def test_the_commands_of_units_are_the_programs(unit: Path) -> None:
    (command,) = [value for key, value in keys_of(unit) if key == "ExecStart" and value]
    program, *words = shlex.split(command.replace("%i", "1"))
    assert program == INSTALLED
    understood(words)
    for key, value in keys_of(unit):
        if key == "Environment":
            place, _, _ = value.partition("=")
            marker, section, name = place.split("__")
            assert marker == "CONFIG"
            assert (section, name) in (("global", "state_dir"), ("logging", "base_log_dir"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_are_not_root_and_end_in_time(unit: Path) -> None:
    keys = dict(keys_of(unit))
    assert keys["User"] == "mistamover"
    assert int(keys["TimeoutStopSec"]) >= 30
    assert keys["RestartPreventExitStatus"] == "2"
    # Only the master tells systemd anything.
    assert keys["Type"] == ("notify" if unit.name == "mistamover.service" else "exec")
    assert {"NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "SystemCallFilter"} <= set(keys)


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze")
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(INSTALLED, sys.executable))
    for drop_in in DROP_INS:
        (tmp_path / drop_in.parent.name).mkdir()
        text = drop_in.read_text().replace(INSTALLED, sys.executable)
        (tmp_path / drop_in.parent.name / drop_in.name).write_text(text)
    names = [unit.name.replace("@.", "@hpc1.") for unit in UNITS]
    (tmp_path / "mistamover-worker@hpc1.service").symlink_to("mistamover-worker@.service")
    done = subprocess.run(
        [analyze, "verify", "--man=no", *(str(tmp_path / name) for name in names)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "mistamover" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr
