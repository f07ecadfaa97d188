"""`mistamover quarantine list`: what lies in quarantine, with any name, moved or not, while no process runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mistamover.cli.main import main
from mistamover.stream.quarantine import move_away
from mistamover.stream.records import Trouble
from unit.cli.conftest import AskedSite, trouble

ODD = [b"plain", b"with blank", b"-n", b"new\nline", b"\xff\xfe", b"deep/er/file", b"esc\x1b[31m"]


def ask(site: AskedSite, *words: str) -> int:
    return main(["quarantine", "list", "-c", str(site.global_ini), *words])


def ask_json(site: AskedSite, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert ask(site, "--json", *words) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def put(site: AskedSite, name: bytes, content: bytes = b"12345", *, moved: bool = True, stream: str = "one") -> Path:
    """Quarantine a file as the stream does, in the ledger and on the disk; return where it lies."""
    settings = site.stream(stream)
    root = str(settings.directory).encode()
    path = Path((root + b"/" + name).decode("utf-8", "surrogateescape"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    note: Trouble = trouble(name, quarantined=True)
    if moved:
        destination = move_away(root, name, settings.quarantine_dir, "permission denied", 1_000_000.0)
        note = trouble(name, quarantined=True, moved_to=destination)
        path = Path(destination.decode("utf-8", "surrogateescape"))
    with site.ledger(stream) as ledger:
        ledger.note_troubles([note])
    return path


def test_nothing_in_quarantine_is_said(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(site) == 0
    assert capsys.readouterr().out == "Nothing is in quarantine.\n"
    assert ask_json(site, capsys) == []


@pytest.mark.parametrize("name", ODD)
def test_any_name_is_listed_with_where_it_lies(
    site: AskedSite, capsys: pytest.CaptureFixture[str], name: bytes
) -> None:
    path = put(site, name)
    (record,) = ask_json(site, capsys)
    assert bytes.fromhex(record.get("name_hex", record["name"].encode().hex())) == name
    where = record["where"]
    assert bytes.fromhex(where.get("name_hex", where["name"].encode().hex())) == bytes(path)
    assert (record["stream"], record["size"], record["moved"]) == ("one", 5, True)
    assert (record["fault"], record["reason"], record["since"]) == ("source", "permission denied", 1_000_000.0)


def test_a_table_has_one_printable_line_for_each(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ODD:
        put(site, name)
    assert ask(site) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(ODD)
    assert all(line.isprintable() for line in lines)


def test_what_stayed_where_it_was_is_listed_there(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(site, b"stuck", moved=False)
    (record,) = ask_json(site, capsys)
    assert (record["where"], record["moved"]) == ({"name": str(path)}, False)


def test_what_somebody_took_away_is_not_listed(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (put(site, b"moved"), put(site, b"stuck", moved=False)):
        path.unlink()
    put(site, b"there")
    assert [record["name"] for record in ask_json(site, capsys)] == ["there"]


def test_what_is_only_tried_again_is_not_listed(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    with site.ledger() as ledger:
        ledger.note_troubles([trouble(b"again")])
    (Path(site.stream().directory) / "again").parent.mkdir(parents=True, exist_ok=True)
    (Path(site.stream().directory) / "again").write_bytes(b"x")
    assert ask_json(site, capsys) == []


def test_a_directory_has_the_size_of_its_files(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(site, b"unit/a")
    (path.parent / "deeper").mkdir()
    (path.parent / "deeper" / "b").write_bytes(b"12345678")
    with site.ledger() as ledger:
        ledger.end_quarantines(ledger.troubles())
        ledger.note_troubles([trouble(b"unit", quarantined=True, moved_to=bytes(path.parent))])
    (path.parent / "a.reason").unlink()
    (record,) = ask_json(site, capsys)
    assert record["size"] == 13


def test_streams_are_chosen_by_name(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("two")
    put(site, b"first")
    put(site, b"second", stream="two")
    assert [record["name"] for record in ask_json(site, capsys)] == ["first", "second"]
    assert [record["name"] for record in ask_json(site, capsys, "two")] == ["second"]


def test_wrong_words_and_a_broken_ledger_have_their_status(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(site, "none") == 2
    path = site.stream().state_dir / "ledger.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"no database at all" * 100)
    assert ask(site) == 1
    assert str(path) in capsys.readouterr().err
