"""`mistamover init` without anybody to ask: from options to files, edits of existing ones, and what is refused."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.cli import init_questions as questions
from mistamover.cli.init_files import Change, is_set, put_in_place, with_key, with_word, written
from mistamover.cli.main import main
from mistamover.config import schema
from mistamover.config.expand import Place
from mistamover.config.load import load
from mistamover.config.read import read
from mistamover.config.settings import TransferMode
from mistamover.errors import MistamoverError, UsageError

LIST = Place("global", "data_stream_list")
HOST = ("--target-host", "target.example.org", "--target-dir", "/in", "--no-check")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration in the environment; pytest's input is no terminal."""
    monkeypatch.delenv("MISTAMOVER_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def init(*words: str) -> int:
    return main(["init", *words])


def everything(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


# -- what is written --------------------------------------------------------------------------


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=30))
def test_what_is_written_is_read_back(value: str) -> None:
    place = Place("ftp", "password")
    value = value.strip()
    try:
        form = written(place, value)
    except UsageError:
        # Only what would need both kinds of quotes at once.
        assert '"' in value and "'" in value
        return
    found = read(Path("x"), draft=f"[ftp]\npassword = {form}\n".encode()).entries()
    assert [entry.text for entry in found] == [value]


@pytest.mark.parametrize("value", ["two\nlines", "control\x07"])
def test_what_no_file_can_hold_is_refused_without_telling_a_secret(value: str) -> None:
    with pytest.raises(UsageError, match=r"the value cannot be written") as caught:
        written(Place("ftp", "password"), f"\"'{value}")
    assert value not in str(caught.value)


@pytest.mark.parametrize("name", questions.ways())
def test_each_way_makes_a_configuration_without_problems(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # No program is called here, and not every machine has them all.
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in ("globus-url-copy", "gfal-rename", "grid-proxy-init", "myproxy-logon"):
        (programs / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{programs}")
    secret = tmp_path / "secret"
    secret.write_text("key\nsecret\n")
    secret.chmod(0o600)
    (tmp_path / "there").mkdir()
    known = {
        "target_host": "target.example.org",
        "target_dir": os.fspath(tmp_path / "there") if name == "local" else "in/here",
        "target_url": "s3://bucket/prefix" if name == "s3" else "file:///srv/data",
        "proxy": "proxy.example.org",
        "username": "me",
    }
    sets = [f"--set={p.section}.{p.key}={known[p.key]}" for p in questions.places(name) if p.key in known]
    if any(schema.is_secret(place.key) for place in questions.places(name)):
        sets += ["--password-file", os.fspath(secret)]
    if name == "sftp":
        sets += ["--password-file", os.fspath(secret)]
    status = init(os.fspath(tmp_path), "--name", "one", "--protocol", name, "--no-check", *sets)
    captured = capsys.readouterr()
    if "pip install mistamover[" in captured.err:
        pytest.skip(captured.err)
    assert status == 0, captured.err
    settings = load(tmp_path / "conf/global.ini", {})
    (stream,) = settings.streams
    # Nobody is warned without being told.
    assert [warning for warning in settings.warnings if warning not in captured.err] == []
    assert [target.protocol for target in stream.targets] == ([] if name in ("none", "arrival_monitor") else [name])
    assert (stream.monitor is not None) is (name == "arrival_monitor")
    assert stream.directory == tmp_path / "data/one" and stream.directory.is_dir()
    for path in (tmp_path / "conf").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_outcome_is_told_to_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init("--name", "one", "--json", *HOST, "--mode", "mirror", "--mail-to", "a@b.org, c@d.org") == 0
    told = json.loads(capsys.readouterr().out)
    conf = tmp_path / "conf"
    assert told["written"] == [str(conf / "ds_one.ini"), str(conf / "global.ini")]
    assert (told["edited"], told["directories"]) == ([], [str(tmp_path / "data/one")])
    assert told["login"] == {"tried": False, "allows": [], "error": None}
    assert told["next"][-2:] == [f"mistamover --one-off {conf}/global.ini", f"mistamover {conf}/global.ini"]
    settings = load(conf / "global.ini", {})
    assert settings.alerts is not None and settings.alerts.mail is not None
    assert settings.alerts.mail.recipients == ("a@b.org", "c@d.org")
    assert settings.streams[0].mode is TransferMode.MIRROR


def test_the_old_spelling_makes_the_same(tmp_path: Path) -> None:
    assert init("--type", "global", "old", "--set", "logging.log_level=debug") == 0
    assert init("-t", "rsync_ssh", "one", "old", *HOST) == 0
    assert init("--type", "global", "old") == 2
    settings = load(tmp_path / "old/conf/global.ini", {})
    assert [stream.name for stream in settings.streams] == ["one"] and settings.log.level == "DEBUG"


# -- existing files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[global]\ndata_stream_list = a b  # ours\n", "[global]\ndata_stream_list = a b new  # ours\n"),
        ("[global]\ndata_stream_list: a, b\n", "[global]\ndata_stream_list: a, b, new\n"),
        ("[global]\r\n data_stream_list =\r\n", "[global]\r\n data_stream_list = new\r\n"),
        ("[global]\ndata_stream_list = None ; no\n", "[global]\ndata_stream_list = new ; no\n"),
        ("[global]\ndata_stream_list =\n  a\n  b\n", "[global]\ndata_stream_list = new\n  a\n  b\n"),
        ("# head\n[global] # c\n\ntop = /x\n", "# head\n[global] # c\ndata_stream_list = new\n\ntop = /x\n"),
        ("[global]", "[global]\ndata_stream_list = new"),
        ("[email]\nfrom = x", "[email]\nfrom = x\n\n[global]\ndata_stream_list = new\n"),
        ("", "\n[global]\ndata_stream_list = new\n"),
    ],
)
def test_a_name_is_added_and_nothing_else_changes(before: str, after: str) -> None:
    assert with_word(before.encode(), LIST, "new").decode() == after
    entry = is_set(after.encode(), LIST)
    assert entry is not None and "new" in entry.text.replace(",", " ").split()


def test_bytes_that_are_no_text_survive_an_edit() -> None:
    before = b"[global]\n# caf\xe9\ntop = /x\n"
    assert with_key(before, LIST, "a") == b"[global]\ndata_stream_list = a\n# caf\xe9\ntop = /x\n"


def test_a_stream_is_added_to_a_list(tmp_path: Path) -> None:
    assert init("--name", "one", *HOST) == 0
    file = tmp_path / "conf/global.ini"
    more = "[outgoing]\ntarget_host = other.example.org\n[rsync_ssh]\ntransfer_mode = mirror\n"
    file.write_text(f"# Ours.\n{file.read_text()}\n{more}")
    file.chmod(0o640)
    before = file.read_text()
    # What the global file says already is not asked for again, nor written.
    assert init(os.fspath(file), "--name", "two", "--target-dir", "/two", "--no-check") == 0
    assert file.read_text() == before.replace("data_stream_list = one", "data_stream_list = one two")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert "target_host" not in (tmp_path / "conf/ds_two.ini").read_text()
    one, two = load(file, {}).streams
    assert (one.targets[0].host, two.targets[0].host) == ("target.example.org", "other.example.org")
    assert (one.mode, two.mode) == (TransferMode.MOVE, TransferMode.MIRROR)


def test_a_directory_of_stream_files_gets_one_more(tmp_path: Path) -> None:
    (tmp_path / "streams").mkdir()
    file = tmp_path / "global.ini"
    file.write_text(f"[global]\ndata_stream_config_dir = streams\nbase_data_dir = {tmp_path}/d\n")
    before = file.read_bytes()
    assert init("--name", "one", *HOST) == 0
    assert file.read_bytes() == before
    assert "\ndirectory" not in (tmp_path / "streams/ds_one.ini").read_text()
    assert [stream.directory for stream in load(file, {}).streams] == [tmp_path / "d/one"]


def test_nothing_is_overwritten_and_nothing_is_left_half_done(tmp_path: Path) -> None:
    one, two = tmp_path / "new/one", tmp_path / "two"
    two.write_bytes(b"mine")
    first = Change(path=one, before=None, after=b"1")
    for second in (Change(path=two, before=None, after=b"2"), Change(path=two, before=b"other", after=b"2")):
        with pytest.raises(UsageError):
            put_in_place([first, second])
        assert everything(tmp_path) == {two: b"mine"} and not one.parent.exists()
    with pytest.raises(MistamoverError, match="cannot be written"):
        put_in_place([first, Change(path=two / "below", before=None, after=b"2")])
    assert everything(tmp_path) == {two: b"mine"} and not one.parent.exists()
    put_in_place([first, Change(path=two, before=b"mine", after=b"2")])
    assert everything(tmp_path) == {one: b"1", two: b"2"}


def test_an_edit_goes_through_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"1")
    link.symlink_to(real)
    put_in_place([Change(path=link, before=b"1", after=b"2")])
    assert link.is_symlink() and real.read_bytes() == b"2"


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "--name: is not set"),
        (("--name", "a/b"), "--name: the stream name"),
        (("--name", "a b"), 'the stream name "a b" cannot be used'),
        (("--name", "one", "--protocol", "rsync_shh"), 'did you mean "rsync_ssh"?'),
        (("--name", "one", "--target-host", "me@there"), "--target-host: "),
        (("--name", "one", *HOST, "--mode", "copy"), "--mode: "),
        (("--name", "one", *HOST, "--set", "rsync_ssh.prot=1"), "--set rsync_ssh.prot: unknown key"),
        (("--name", "one", *HOST, "--set", "rsync.port=1"), "--set rsync.port: unknown section"),
        (("--name", "one", *HOST, "--set", "rsync_ssh.port=99999"), "expected a whole number from 1 to 65535"),
        (("--name", "one", *HOST, "--set", "port"), "expected SECTION.KEY=VALUE"),
        (("--name", "one", *HOST, "--set", "ftp.password=hush"), "use --password-file"),
        (("--name", "one", "--protocol", "none", "--username", "me"), "--username has no use here"),
        (("--name", "one", *HOST, "--directory", "."), "which would be sent away with the data"),
        (("--name", "one", "--target-dir", "/x", "--no-check"), "--target-host: is not set"),
        (("one", "two", "--yes"), "expected nothing after one"),
        (("--type", "global", "--name", "x"), "--name has no use here"),
    ],
)
def test_wrong_words_are_told_by_the_option_and_write_nothing(
    tmp_path: Path, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(*words) == 2
    said = capsys.readouterr().err
    assert told in said and "hush" not in said
    assert not list(tmp_path.iterdir())


def test_a_broken_configuration_is_to_be_mended_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "global.ini"
    file.write_text("[global]\ntpo = /x\n")
    before = everything(tmp_path)
    assert init("--name", "one", *HOST) == 2
    assert f"{file}:2: [global] tpo: unknown key" in capsys.readouterr().err
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["ds_one.ini", "one.ini", "dataset_one.ini"])
def test_a_file_that_is_there_keeps_its_name(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / name).write_text("mine")
    before = everything(tmp_path)
    assert init("--name", "one", *HOST) == 2
    assert f"{name} exists already" in capsys.readouterr().err
    assert everything(tmp_path) == before
