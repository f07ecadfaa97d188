"""`mistamover status`: the truth about every stream, also while nothing runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mistamover.cli import status
from mistamover.errors import UsageError
from mistamover.model import StreamState
from mistamover.report import mastership
from support import wait_until
from unit.cli.conftest import AskedSite, confirmed, deliver, trouble


def ask_json(site: AskedSite, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = site.here(status, "--json", *words)
    return code, json.loads(capsys.readouterr().out)


def ask(site: AskedSite, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = site.here(status, *words)
    return code, capsys.readouterr().out


def test_a_stream_that_never_ran_is_down(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer = ask_json(site, capsys)
    assert code == 1
    assert (answer["running"], answer["pid"], answer["config"]) == (False, None, str(site.global_ini))
    (stream,) = answer["streams"]
    assert (stream["name"], stream["state"], stream["delivered"], stream["unconfigured"]) == ("one", "DOWN", 0, False)
    assert (stream["history_files"], stream["history_bytes"], stream["last_delivery"]) == (0, 0, None)
    code, text = ask(site, capsys)
    assert code == 1
    assert "MiStaMover does not run" in text
    assert "one: no process serves it, although it should run; its log is" in text


def test_a_served_stream_shows_what_its_process_says_and_its_history(
    site: AskedSite, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(site, confirmed(b"a", size=1000), confirmed(b"b", size=24), now=1_000_010.0)
    with site.served(
        state=StreamState.SENDING,
        seen=9,
        waiting=4,
        sending=2,
        delivered=5,
        rate=2048.0,
        oldest_waiting=time.time() - 90,
    ):
        code, answer = ask_json(site, capsys)
        assert code == 0
        (stream,) = answer["streams"]
        assert stream["state"] == "SENDING"
        assert (stream["seen"], stream["waiting"], stream["sending"], stream["delivered"]) == (9, 4, 2, 5)
        assert (stream["history_files"], stream["history_bytes"], stream["last_delivery"]) == (2, 1024, 1_000_010.0)
        code, text = ask(site, capsys)
        assert code == 0
        row = next(line for line in text.splitlines() if line.startswith("one "))
        assert " ".join(row.split()) == "one SENDING 4 2 5 (0 B) 2 (1.0 KiB) 0 0 2.0 KiB/s 1m"


def test_after_its_end_the_last_numbers_are_shown_with_their_time(
    site: AskedSite, capsys: pytest.CaptureFixture[str]
) -> None:
    site.snapshot(
        state=StreamState.SENDING, waiting=3, sending=2, delivered=7, rate=99.0, hold="something", updated=1_000_000.0
    )
    code, answer = ask_json(site, capsys)
    (stream,) = answer["streams"]
    assert code == 1
    assert (stream["state"], stream["waiting"], stream["delivered"]) == ("DOWN", 3, 7)
    assert (stream["sending"], stream["rate"], stream["hold"]) == (0, 0.0, None)
    _, text = ask(site, capsys)
    assert "no process runs: the numbers are those of 1970-01-1" in text


def test_the_words_of_a_predecessor_are_not_taken_for_those_of_a_process_that_has_not_spoken(
    site: AskedSite, capsys: pytest.CaptureFixture[str]
) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with site.served(state=StreamState.STOPPING, pid=child.pid):
        code, answer = ask_json(site, capsys)
    assert code == 0
    assert answer["streams"][0]["state"] == "STARTING"


@pytest.mark.parametrize("state", ["STOPPED", "COMPLETE"])
def test_a_stream_that_should_not_run_is_well_without_a_process(
    site: AskedSite, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    site.add("two", data_stream={"status": state})
    site.remove("one")
    code, answer = ask_json(site, capsys)
    assert code == 0
    assert answer["streams"][0]["state"] == state
    _, text = ask(site, capsys)
    assert f"two: does not run: status = {state} in" in text


def test_a_stream_that_completed_stays_complete(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    site.snapshot(state=StreamState.COMPLETE)
    code, answer = ask_json(site, capsys)
    assert (code, answer["streams"][0]["state"]) == (0, "COMPLETE")


def test_an_unreachable_target_is_shown_whole_with_the_next_try_and_status_1(
    site: AskedSite, capsys: pytest.CaptureFixture[str]
) -> None:
    error = "ssh: connect to host example port 22: " + "no route to host; " * 20
    with site.served(
        state=StreamState.UNREACHABLE,
        hold="the target failed: " + error,
        retry_at=time.time() + 30,
        last_error=error + "\x1b[2J",
        last_error_at=time.time() - 200,
    ):
        code, text = ask(site, capsys)
    assert code == 1
    assert f"one: the target failed: {error}".rstrip() in text
    assert "one: the target is tried again in " in text
    assert f"one: last error 3m ago: {error}\\x1b[2J" in text
    assert "\x1b" not in text


def test_quarantined_units_are_counted_as_long_as_they_are_there(
    site: AskedSite, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = site.stream().quarantine_dir / "bad.nc"
    moved.parent.mkdir()
    moved.write_text("x")
    with site.ledger() as ledger:
        ledger.note_troubles([trouble(b"bad.nc", quarantined=True, moved_to=os.fsencode(moved)), trouble(b"retried")])
    with site.served():
        code, answer = ask_json(site, capsys)
        assert (code, answer["streams"][0]["in_quarantine"]) == (1, 1)
        _, text = ask(site, capsys)
        assert "one: 1 unit in quarantine (see " in text
        _, text = ask(site, capsys, "one")
        assert "one:   bad.nc: permission denied" in text
        moved.unlink()
        code, answer = ask_json(site, capsys)
        assert (code, answer["streams"][0]["in_quarantine"]) == (0, 0)


def test_a_broken_ledger_is_told_and_does_not_hide_the_rest(
    site: AskedSite, capsys: pytest.CaptureFixture[str]
) -> None:
    with site.served(delivered=3):
        (site.stream().state_dir / "ledger.sqlite").write_bytes(b"no database" * 100)
        code, text = ask(site, capsys)
        assert code == 1
        assert "one: the history cannot be read: " in text
        assert "3 (0 B)" in text


def test_what_an_unconfigured_stream_left_behind_is_shown(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("old")
    site.snapshot("old", waiting=2)
    site.add("clean")
    site.snapshot("clean")
    site.remove("old")
    site.remove("clean")
    with site.served("one"):
        code, answer = ask_json(site, capsys)
    assert code == 0
    assert [(s["name"], s["unconfigured"]) for s in answer["streams"]] == [("one", False), ("old", True)]
    _, text = ask(site, capsys)
    assert "old: is no longer configured" in text


def test_the_master_is_known_by_its_lock(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    state_dir = site.settings().state_dir
    state_dir.mkdir(parents=True, exist_ok=True)
    report = mastership.MasterReport(
        pid=4711, started=time.time() - 7200, config="/etc/other.ini", host="alpha", mode="daemon", problems=("x:1: y",)
    )
    mastership.write(state_dir, report)
    assert ask_json(site, capsys)[1]["running"] is False, "a report without its lock is left over"
    held = mastership.claim(state_dir)
    assert held is not None
    try:
        code, answer = ask_json(site, capsys)
        assert (answer["running"], answer["pid"], answer["host"]) == (True, 4711, "alpha")
        assert (code, answer["problems"]) == (1, ["x:1: y"])
        _, text = ask(site, capsys)
        assert text.startswith("MiStaMover runs: process 4711 on alpha (daemon) since ")
        assert "(2h), configuration " in text
        assert "but it was started with another one: /etc/other.ini" in text
        assert "the last good configuration is in force: x:1: y" in text
        (state_dir / "master.json").write_text("")
        assert ask_json(site, capsys)[1]["running"] is True
    finally:
        os.close(held)


def test_named_streams_tell_what_waits_and_why(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    from mistamover.report.snapshot import Undelivered

    waiting = tuple(Undelivered(name=f"f{n}", reason="settling") for n in range(25))
    with site.served(state=StreamState.WAITING, waiting=30, undelivered=waiting):
        _, text = ask(site, capsys, "one")
    assert "one:   f0: settling" in text
    assert "one:   and 10 more" in text


def test_a_wrong_stream_or_period_is_refused(site: AskedSite) -> None:
    with pytest.raises(UsageError, match="did you mean one"):
        site.here(status, "on")
    with pytest.raises(UsageError, match="--watch takes"):
        site.here(status, "--watch", "0")


def test_watching_draws_anew_survives_a_broken_configuration_and_ends_by_ctrl_c(
    site: AskedSite, tmp_path: Path
) -> None:
    code = (
        # A shell that starts tests in the background lets them ignore SIGINT.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import argparse, sys; from mistamover.cli import status; p = argparse.ArgumentParser(); status.configure(p);"
        "sys.exit(status.run(p.parse_args(sys.argv[1:])))"
    )
    output = tmp_path / "output"
    with output.open("wb") as sink:
        words = [sys.executable, "-c", code, "-c", str(site.global_ini), "--watch", "0.1"]
        process = subprocess.Popen(words, env=site.environment(), stdout=sink, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: output.read_text().count("DOWN") >= 2, 30, "it is drawn twice")
            shutil.copy(site.global_ini, tmp_path / "good")
            site.global_ini.write_text("[global]\nno_such_key = 1\n")
            wait_until(lambda: "shown is the last good one" in output.read_text(), 30, "the problem is shown")
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in output.read_text()
