"""`mistamover why`: one true answer for every name, with files that real processes hold open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mistamover.cli import why
from mistamover.errors import UsageError
from mistamover.files.identity import identity_of
from mistamover.model import Confirmed, Kind, StreamState, Unit
from mistamover.stream.quarantine import move_away
from unit.cli.conftest import AskedSite, confirmed, deliver, trouble
from unit.cli.test_openers import holding


def ask(site: AskedSite, capsys: pytest.CaptureFixture[str], path: str | os.PathLike[str]) -> tuple[int, str]:
    code = site.here(why, path)
    text = capsys.readouterr().out
    assert all(line.isprintable() for line in text.splitlines())
    return code, text


def ask_json(site: AskedSite, capsys: pytest.CaptureFixture[str], path: str | os.PathLike[str]) -> dict[str, Any]:
    code = site.here(why, "--json", path)
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == (0 if answer["known"] else 1)
    return answer


def codes(answer: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in answer["reasons"]]


@pytest.fixture
def source(site: AskedSite) -> Path:
    return site.streams["one"].source


# -- what is there ----------------------------------------------------------------------------


def test_a_closed_file_of_a_served_stream_is_sent(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "new.nc").write_text("hello")
    with site.served():
        answer = ask_json(site, capsys, source / "new.nc")
        code, text = ask(site, capsys, source / "new.nc")
    assert (answer["action"], answer["stream"], answer["name"], answer["kind"]) == ("send", "one", "new.nc", "file")
    assert codes(answer) == ["wanted", "closed"]
    assert answer["otherwise"] is None
    assert code == 0
    assert "SEND: it leaves with the next batch. No process has it open for writing." in text
    assert "Looked at next: now" in text
    assert "Open in no process" in text


def test_a_file_that_is_being_written_names_its_writer(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = source / "growing.nc"
    path.write_text("x")
    with site.served(), holding(path, "ab") as pid:
        answer = ask_json(site, capsys, path)
        _, text = ask(site, capsys, path)
    assert (answer["action"], codes(answer)) == ("wait", ["wanted", "open"])
    assert [(o["pid"], o["writing"]) for o in answer["open_in"]] == [(pid, True)]
    assert answer["look_again"] > time.time() - 5
    assert "WAIT: A process has it open for writing." in text
    assert f"  process {pid} (python" in text
    assert ") for writing" in text
    assert "Looked at next: at the latest in 5s" in text


def test_asking_survives_a_writer_that_comes_in_that_instant_and_leaves_no_lease(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = source / "file"
    path.write_text("x")
    ask_json(site, capsys, path)
    assert signal.getsignal(signal.SIGIO) is not signal.SIG_DFL
    # A lease that nobody gives up holds a writer for longer (/proc/sys/fs/lease-break-time, 45 s).
    subprocess.run(["sh", "-c", 'echo more >> "$1"', "sh", str(path)], check=True, timeout=20)


def test_a_stream_that_is_down_says_so_first_and_what_would_be(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "new.nc").write_text("hello")
    (source / ".stop").touch()
    answer = ask_json(site, capsys, source / "new.nc")
    assert (answer["action"], codes(answer)) == ("wait", ["down", "stop-here", "wanted", "closed"])
    assert answer["otherwise"]["action"] == "send"
    _, text = ask(site, capsys, source / "new.nc")
    assert "WAIT: No process serves this stream: the service does not run" in text
    assert "Without what holds the whole stream it would be: sent with the next batch" in text
    assert "Looked at next: when a process serves the stream again" in text


def test_a_stop_file_and_an_unreachable_target_hold_the_whole_stream(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = source / "new.nc"
    path.write_text("hello")
    with site.served(state=StreamState.UNREACHABLE, hold="the target failed: no route", retry_at=time.time() + 20):
        answer = ask_json(site, capsys, path)
        assert codes(answer) == ["circuit", "wanted", "closed"]
        assert answer["retry_target_at"] > time.time()
        _, text = ask(site, capsys, path)
        assert "WAIT: The target failed: no route." in text
        assert "Looked at next: the target is tried again in " in text
    here = ".stop is in the stream's directory"
    with site.served(state=StreamState.SUSPENDED, hold=here):
        assert codes(ask_json(site, capsys, path)) == ["wanted", "closed"], "it was removed since"
        (source / ".stop").touch()
        assert codes(ask_json(site, capsys, path)) == ["stop-here", "wanted", "closed"]
        assert codes(ask_json(site, capsys, source / ".stop")) == ["stop-file"]
    (source / ".stop").unlink()
    with site.served(state=StreamState.SUSPENDED, hold=".stop is in host:/there"):
        assert codes(ask_json(site, capsys, path))[0] == "stop-there"
    with site.served(state=StreamState.IDLE, hold="3 names are gone at the source, more than mirror_max_delete"):
        assert codes(ask_json(site, capsys, path)) == ["wanted", "closed"], "that holds only the removal"


def test_ignored_names_say_by_which_rule(site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / ".hidden").touch()
    os.mkfifo(source / "fifo")
    with site.served():
        assert codes(ask_json(site, capsys, source / ".hidden")) == ["dot"]
        assert codes(ask_json(site, capsys, source / "fifo")) == ["special"]
        _, text = ask(site, capsys, source / ".hidden")
    assert "IGNORE: it is never sent. Its name, or that of a directory above it, begins with a dot." in text


def test_failed_attempts_are_told_with_the_next_one(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = source / "bad.nc"
    path.write_text("x")
    with site.ledger() as ledger:
        ledger.note_troubles([trouble(b"bad.nc", attempts=2, retry_at=time.time() + 30)])
    with site.served():
        answer = ask_json(site, capsys, path)
        _, text = ask(site, capsys, path)
    assert codes(answer) == ["wanted", "attempts", "retry"]
    assert answer["trouble"]["attempts"] == 2
    assert "2 of 3 attempts failed (first seen 1970-01-1" in text
    assert "Next attempt: in " in text


def test_a_mirror_knows_what_it_has_delivered(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    stream = site.add("copy", rsync_ssh={"transfer_mode": "mirror"})
    path = stream.source / "file"
    path.write_text("x")
    unit = Unit(name=b"file", kind=Kind.FILE, identity=identity_of(path.lstat()), first_seen=1.0)
    deliver(site, Confirmed(unit=unit, digest="ab" * 16), stream="copy", mirror=True)
    with site.served("copy"):
        answer = ask_json(site, capsys, path)
        assert (answer["action"], codes(answer)) == ("done", ["delivered"])
        _, text = ask(site, capsys, path)
        assert "DONE: there is nothing to do. Delivered, and unchanged since." in text
        assert "source kept: it is a mirror" in text
        path.write_text("changed")
        answer = ask_json(site, capsys, path)
        assert answer["action"] == "send"
        assert "changed since it was delivered" in answer["reasons"][0]["text"]


def test_a_quarantined_file_that_stays_where_it_is(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = source / "bad.nc"
    path.write_text("x")
    with site.ledger() as ledger:
        ledger.note_troubles([trouble(b"bad.nc", quarantined=True, identity=identity_of(path.lstat()))])
    answer = ask_json(site, capsys, path)
    assert (answer["action"], codes(answer)) == ("quarantine", ["quarantined"])
    _, text = ask(site, capsys, path)
    assert "QUARANTINE: it is not tried again until it changes. Quarantined: permission denied." in text
    path.write_text("repaired")
    with site.served():
        assert ask_json(site, capsys, path)["action"] == "send"


def test_part_of_a_directory_unit_is_answered_for_the_unit(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    stream = site.add("units", data_stream={"transfer_unit": "directory", "settle_time": 0.01})
    (stream.source / "run7" / "deep").mkdir(parents=True)
    path = stream.source / "run7" / "deep" / "a"
    path.write_text("x")
    with site.served("units"):
        time.sleep(0.02)
        answer = ask_json(site, capsys, path)
        assert (answer["action"], answer["kind"], answer["unit"]["name"]) == ("send", "tree", "run7")
        assert "part of the directory unit run7" in answer["remarks"][0]
        with holding(path, "ab") as pid:
            answer = ask_json(site, capsys, path)
        assert (answer["action"], codes(answer)) == ("wait", ["wanted", "open"])
        assert [o["pid"] for o in answer["open_in"]] == [pid]
        answer = ask_json(site, capsys, stream.source / "run7" / "missing")
        assert "run7/missing itself does not exist" in answer["remarks"][-1]


def test_a_directory_of_a_move_is_not_sent_while_it_holds_something(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "d").mkdir()
    (source / "d" / "file").touch()
    with site.served():
        answer = ask_json(site, capsys, source / "d")
        assert (answer["action"], codes(answer)) == ("wait", ["directory"])
        (source / "d" / "file").unlink()
        answer = ask_json(site, capsys, source / "d")
        assert (answer["action"], codes(answer)) == ("wait", ["wanted", "settle"])


# -- which place is meant ---------------------------------------------------------------------


def test_paths_are_taken_as_ls_takes_them(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (source / "d").mkdir()
    (source / "d" / "a:b").write_text("x")
    (source / "link").symlink_to("/nowhere")
    os.symlink(source, tmp_path / "alias")
    monkeypatch.chdir(source / "d")
    for path in ("a:b", "./a:b", "../d/a:b", tmp_path / "alias" / "d" / "a:b", "one:d/a:b", "one:./d//a:b"):
        assert ask_json(site, capsys, path)["name"] == "d/a:b"
    answer = ask_json(site, capsys, source / "link")
    assert (answer["name"], answer["kind"]) == ("link", "link")


def test_a_path_below_a_link_is_answered_for_the_link(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (source / "link").symlink_to(tmp_path / "elsewhere")
    answer = ask_json(site, capsys, source / "link" / "file")
    assert (answer["name"], answer["kind"]) == ("link", "link")
    assert "links are never followed" in answer["remarks"][0]


def test_names_are_bytes(site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (b"new\nline", b"\xff\xfe", b"-n", b"n" * 255):
        path = os.fsencode(source) + b"/" + name
        with open(path, "wb"):
            pass
        answer = ask_json(site, capsys, os.fsdecode(path))
        assert bytes.fromhex(answer.get("name_hex", answer["name"].encode().hex())) == name
        assert answer["exists"]
        ask(site, capsys, os.fsdecode(path))


@pytest.mark.parametrize("path", ["/", "/nowhere/x", "", "one:../x", "one:/etc/passwd", "one:", "two:x"])
def test_what_is_in_no_stream_is_refused(site: AskedSite, path: str) -> None:
    with pytest.raises(UsageError):
        site.here(why, path)


def test_a_refusal_lists_the_streams(site: AskedSite, source: Path) -> None:
    with pytest.raises(UsageError, match=f"the streams are\n  one: {source}"):
        site.here(why, "/nowhere/x")
    with pytest.raises(UsageError, match="the directory of stream one itself"):
        site.here(why, source)
    with pytest.raises(UsageError, match="the quarantine of stream one"):
        site.here(why, source / "quarantine")


# -- what is gone -----------------------------------------------------------------------------


def test_a_delivered_file_tells_when_and_where(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deliver(site, confirmed(b"gone.nc", size=2048, attempts=1), now=1_000_010.0)
    answer = ask_json(site, capsys, source / "gone.nc")
    assert (answer["exists"], answer["action"], len(answer["deliveries"])) == (False, None, 1)
    assert answer["deliveries"][0]["digest"] == "ab" * 16
    code, text = ask(site, capsys, "one:gone.nc")
    assert code == 0
    assert f"DELIVERED to {site.stream().targets[0].name} at 1970-01-1" in text
    assert "2.0 KiB = 2048 bytes, md5 " + "ab" * 16 + ", 10s after it was first seen, 1 failed before" in text
    assert "source removed 1970-01-1" in text


def test_a_source_that_was_kept_says_why(site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deliver(site, confirmed(b"f"), kept={b"f": "changed after it was sent"})
    _, text = ask(site, capsys, source / "f")
    assert "source kept: changed after it was sent" in text


def test_a_part_of_a_delivered_unit_has_its_own_record(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("units", data_stream={"transfer_unit": "directory"})
    tree = confirmed(b"run7", kind=Kind.TREE, digest="", parts=(confirmed(b"run7/a", digest="cd" * 16),))
    deliver(site, tree, stream="units")
    answer = ask_json(site, capsys, "units:run7/a")
    assert [d["digest"] for d in answer["deliveries"]] == ["cd" * 16]
    assert ask_json(site, capsys, "units:run7")["deliveries"][0]["kind"] == "tree"


def test_a_name_that_was_never_seen_is_status_1(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = ask(site, capsys, source / "never")
    assert code == 1
    assert "nothing is known of it" in text
    assert ask_json(site, capsys, source / "never")["known"] is False


def test_a_quarantined_file_is_found_from_both_sides(
    site: AskedSite, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "d").mkdir()
    (source / "d" / "bad.nc").write_text("x")
    moved = move_away(os.fsencode(source), b"d/bad.nc", site.stream().quarantine_dir, "permission denied", 1_000_000.0)
    with site.ledger() as ledger:
        ledger.note_troubles([trouble(b"d/bad.nc", quarantined=True, attempts=3, moved_to=moved)])
    _, text = ask(site, capsys, source / "d" / "bad.nc")
    assert "It is not there any more: QUARANTINED. Permission denied." in text
    assert f"Quarantined as {os.fsdecode(moved)}" in text
    assert "To have it tried again: mistamover quarantine retry one d/bad.nc" in text
    _, text = ask(site, capsys, os.fsdecode(moved))
    assert "QUARANTINED: Permission denied." in text
    assert "  reason: permission denied" in text
    assert ask_json(site, capsys, os.fsdecode(moved))["in_quarantine"] is True
    with site.ledger() as ledger:
        ledger.end_quarantines(ledger.troubles())
    code, text = ask(site, capsys, os.fsdecode(moved))
    assert code == 0, "the note beside it still tells"
    assert "reason: permission denied" in text
    (source / "quarantine" / "stray").touch()
    _, text = ask(site, capsys, source / "quarantine" / "stray")
    assert "the stream did not put it there" in text
    assert ask(site, capsys, source / "quarantine" / "nothing")[0] == 1
