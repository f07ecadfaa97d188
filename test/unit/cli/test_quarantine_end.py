"""`mistamover quarantine retry` and `release`: which units are meant, what is said, and with which status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mistamover.cli.main import main
from mistamover.stream import requests
from unit.cli.conftest import AskedSite
from unit.cli.test_quarantine_list import ODD, put


def ask(site: AskedSite, verb: str, *words: str | bytes | Path) -> int:
    return main(["quarantine", verb, "-c", str(site.global_ini), *map(os.fsdecode, words)])


def source(site: AskedSite, name: bytes, stream: str = "one") -> Path:
    return Path(os.fsdecode(os.fsencode(site.stream(stream).directory) + b"/" + name))


@pytest.mark.parametrize("name", ODD)
def test_any_name_can_be_said(site: AskedSite, capsys: pytest.CaptureFixture[str], name: bytes) -> None:
    put(site, name)
    assert ask(site, "retry", "--json", "--", "one", name) == 0
    (record,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert bytes.fromhex(record.get("name_hex", record["name"].encode().hex())) == name
    assert (record["stream"], record["done"], record["outcome"]) == ("one", True, "retried")
    assert source(site, name).read_bytes() == b"12345"


def test_a_unit_is_meant_by_its_path_as_well_or_as_it_is_shown(
    site: AskedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [put(site, name) for name in (b"whole", b"d/relative", b"shown\n\xff")]
    monkeypatch.chdir(paths[1].parent)
    assert ask(site, "retry", paths[0], "relative", "shown\\n\\xff") == 0
    assert source(site, b"d/relative").exists() and source(site, b"shown\n\xff").exists()


def test_without_its_stream_a_name_must_be_of_one_only(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("two")
    put(site, b"f")
    put(site, b"f", stream="two")
    assert ask(site, "retry", "f") == 2
    assert "more than one unit" in capsys.readouterr().err
    assert ask(site, "retry", "two", "f") == 0
    assert ask(site, "retry", "f") == 0


def test_of_several_of_one_name_the_path_of_one_is_asked_for(
    site: AskedSite, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = put(site, b"f"), put(site, b"f", b"2")
    assert ask(site, "retry", "one", "f") == 2
    err = capsys.readouterr().err
    assert "give the path of one of them" in err and str(first) in err and str(second) in err
    assert ask(site, "retry", second) == 0
    assert source(site, b"f").read_bytes() == b"2"
    assert ask(site, "retry", "one", "--all") == 1
    assert first.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["on", "bad.nc"], "did you mean the stream one?"),
        (["one", "bad.n"], "did you mean bad.nc?"),
        (["one", "nothing like it"], "`mistamover quarantine list` names what is"),
        (["one"], "mistamover quarantine retry one --all"),
        ([], "or --all"),
        (["one", "bad.nc", "--all"], "--all takes the name of one stream at most"),
        (["no-stream", "--all"], "--all takes"),
        (["bad.nc", "--timeout", "-1"], "--timeout takes"),
    ],
)
def test_wrong_words_do_nothing(
    site: AskedSite, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    path = put(site, b"bad.nc")
    assert ask(site, "retry", *words) == 2
    assert said in capsys.readouterr().err
    assert path.exists()


def test_a_unit_that_is_unknown_beside_one_that_is_known_does_nothing(site: AskedSite) -> None:
    path = put(site, b"f")
    assert ask(site, "retry", "one", "f", "g") == 2
    assert path.exists()


def test_nothing_in_quarantine_is_well(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(site, "retry", "--all") == 0
    assert ask(site, "retry", "one", "--all") == 0
    assert capsys.readouterr().out == "Nothing is in quarantine.\n" * 2


def test_all_of_one_stream_is_not_all(site: AskedSite) -> None:
    site.add("two")
    paths = [put(site, b"a"), put(site, b"b"), put(site, b"c", stream="two")]
    assert ask(site, "retry", "one", "--all") == 0
    assert [path.exists() for path in paths] == [False, False, True]
    assert ask(site, "retry", "--all") == 0
    assert source(site, b"c", "two").exists()


def test_what_is_refused_is_said_with_the_reason_and_the_rest_is_done(
    site: AskedSite, capsys: pytest.CaptureFixture[str]
) -> None:
    put(site, b"a")
    put(site, b"b")
    source(site, b"a").write_text("new")
    assert ask(site, "retry", "one", "a", "b") == 1
    out, err = capsys.readouterr()
    assert out == f"one: b: put back as {source(site, b'b')}, to be tried again\n"
    assert f"one: a: {source(site, b'a')} is taken: move that away first" in err
    assert source(site, b"a").read_text() == "new"


def test_where_released_units_must_not_go(site: AskedSite, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = put(site, b"f")
    settings = site.stream()
    (tmp_path / "link").symlink_to(settings.directory)
    for to in (settings.directory, settings.quarantine_dir, tmp_path / "link", tmp_path / "none", path):
        assert ask(site, "release", "one", "f", "--to", to) == 2
        assert "--to" in capsys.readouterr().err
    assert path.exists()
    (tmp_path / "good").mkdir()
    assert ask(site, "release", "one", "f", "--to", tmp_path / "good") == 0
    assert (tmp_path / "good" / "f").read_bytes() == b"12345"


def test_a_process_that_says_nothing_is_told_and_the_request_stays(
    site: AskedSite, capsys: pytest.CaptureFixture[str]
) -> None:
    put(site, b"f")
    with site.served():
        assert ask(site, "retry", "one", "f", "--timeout", "0.05") == 1
    assert "has not answered yet" in capsys.readouterr().err
    (key,) = requests.pending(site.stream().state_dir)
    assert ask(site, "retry", "--all") == 1, "what the first request has done is no work for the second"
    assert source(site, b"f").exists()
    answer = requests.take_answer(site.stream().state_dir, key)
    assert answer is not None
    assert answer[0].done


def test_what_root_asks_can_be_read_by_the_user_of_the_service(site: AskedSite) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can ask for others")
    put(site, b"d/f")
    state_dir, directory = site.stream().state_dir, site.stream().directory
    os.chown(directory, 1234, 1235)
    (directory / "d").rmdir()
    os.chown(state_dir, 1234, 1235)
    with site.served():
        ask(site, "retry", "one", "d/f", "--timeout", "0")
    (key,) = requests.pending(state_dir)
    place = state_dir / requests.DIRECTORY
    assert {(p.stat().st_uid, p.stat().st_gid) for p in (place, place / f"{key}.request")} == {(1234, 1235)}
    ask(site, "retry", "--all")
    made = (directory / "d").stat()
    assert (made.st_uid, made.st_gid) == (1234, 1235)
    assert main(["pause", "-c", str(site.global_ini), "one"]) == 0
    assert (state_dir / "paused").stat().st_uid == 1234


def test_help_of_every_verb_has_examples_and_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["quarantine"], ["quarantine", "retry"], ["quarantine", "release"], ["pause"], ["resume"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert "Examples:" in text and "Exit status: 0" in text


def test_help_needs_neither_the_ledger_nor_the_parser_of_the_configuration() -> None:
    words = (
        "import sys; from mistamover.cli import quarantine, pause, resume; print([m for m in %r if m in sys.modules])"
    )
    heavy = ["paramiko", "watchdog", "configobj"]
    done = subprocess.run([sys.executable, "-c", words % heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
