"""`mistamover db` and `mistamover token`: on a real store, with what they print and how they end."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from mistamover.cli.main import main
from mistamover.jobs.model import Scope
from mistamover.jobs.store.schema import HEAD
from mistamover.jobs.store.store import Store

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    """A global file that has a job front."""
    (tmp_path / "streams").mkdir()
    path = tmp_path / "global.ini"
    path.write_text(
        f"[global]\nstate_dir = {tmp_path}/state\ndata_stream_config_dir = {tmp_path}/streams\n"
        "[front]\nenabled = True\n"
    )
    return path


def ask(capsys: Captured, ini: Path, *words: str) -> tuple[int, str, str]:
    """Run a command; return its exit status and what it printed, to the terminal and as errors."""
    status = main([*words, "-c", os.fspath(ini)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_store_is_made_and_checked(ini: Path, capsys: Captured) -> None:
    path = ini.parent / "state" / "jobs" / "store.sqlite"
    status, out, err = ask(capsys, ini, "db", "check")
    assert (status, out) == (1, "") and "mistamover db upgrade" in err and not path.exists()
    assert ask(capsys, ini, "db", "upgrade") == (0, f"{path}: made (step {HEAD})\n", "")
    assert ask(capsys, ini, "db", "upgrade") == (0, f"{path}: up to date (step {HEAD})\n", "")
    status, out, _ = ask(capsys, ini, "db", "check", "--json")
    assert status == 0 and json.loads(out) == {"store": os.fspath(path), "step": HEAD, "changed": False}
    path.write_bytes(b"nothing of the kind, at all" * 99)
    status, out, err = ask(capsys, ini, "db", "check")
    assert (status, out) == (1, "") and "not a database" in err


def test_without_jobs_there_is_no_store(ini: Path, capsys: Captured) -> None:
    ini.write_text(ini.read_text().replace("[front]\nenabled = True\n", ""))
    for words in (("db", "check"), ("db", "upgrade"), ("token", "list")):
        status, out, err = ask(capsys, ini, *words)
        assert (status, out) == (2, "") and "[front]" in err
    assert not (ini.parent / "state").exists()


def test_a_token_is_made_shown_and_revoked(ini: Path, capsys: Captured) -> None:
    assert ask(capsys, ini, "token", "list")[:2] == (0, "no tokens\n")
    status, out, err = ask(capsys, ini, "token", "create", "portal", "--scope", "submit", "--expires", "30")
    secret = out.strip()
    assert status == 0 and out.count("\n") == 1 and secret.startswith("mm_") and secret not in err
    with Store(f"sqlite:///{ini.parent}/state/jobs/store.sqlite") as store:
        token = store.tokens.verify(secret)
        assert token is not None and token.scope is Scope.SUBMIT and token.expires is not None
        assert 29 * 86400 < token.expires - token.created <= 30 * 86400
    status, out, _ = ask(capsys, ini, "token", "list", "--json")
    (shown,) = json.loads(out)["tokens"]
    assert set(shown) == {"name", "scope", "created", "last_used", "expires"} and shown["last_used"]
    _, out, _ = ask(capsys, ini, "token", "list")
    assert "portal  submit" in out and "ago" in out and secret not in out
    status, out, err = ask(capsys, ini, "token", "create", "portal", "--scope", "read")
    assert (status, out) == (1, "") and "portal already" in err
    assert ask(capsys, ini, "token", "revoke", "portal") == (0, "portal: revoked\n", "")
    status, out, err = ask(capsys, ini, "token", "revoke", "portal")
    assert (status, out) == (1, "") and 'no token called "portal"' in err


def test_a_secret_can_be_written_into_a_private_file(ini: Path, capsys: Captured) -> None:
    path = ini.parent / "portal.key"
    words = ("token", "create", "portal", "--scope", "admin", "--file", os.fspath(path), "--json")
    status, out, _ = ask(capsys, ini, *words)
    secret = path.read_text().strip()
    assert status == 0 and secret.startswith("mm_") and secret not in out and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(out) == {"name": "portal", "scope": "admin", "file": os.fspath(path), "expires": None}
    status, _, err = ask(capsys, ini, *words)
    assert status == 2 and "exists" in err
    assert path.read_text().strip() == secret
    other = ini.parent / "other.key"
    status, _, _ = ask(capsys, ini, "token", "create", "portal", "--scope", "admin", "--file", os.fspath(other))
    assert status == 1 and not other.exists(), "no file without a token"


@pytest.mark.parametrize("days", ["0", "-1", "x", "nan", "inf", "40000"])
def test_an_end_is_in_days_to_come(ini: Path, capsys: Captured, days: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["token", "create", "x", "--scope", "read", "--expires", days, "-c", os.fspath(ini)])
    assert ended.value.code == 2 and "number of days" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("db",), ("token",), ("token", "create"), ("token", "create", "x"), ("db", "drop")])
def test_wrong_words_are_refused(capsys: Captured, words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and "usage" in capsys.readouterr().err
