"""What the commands share: finding the configuration, naming streams, printing for people."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from mistamover.cli import common
from mistamover.errors import LedgerError, MistamoverError, UsageError
from unit.cli.conftest import AskedSite


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    common.add_config_option(parser)
    return parser.parse_args(words)


def test_the_configuration_is_taken_from_the_option_then_the_environment_then_the_default(
    site: AskedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(common.CONFIG_VARIABLE, "/nowhere/global.ini")
    assert common.load_settings(parse("-c", str(site.global_ini))).file == site.global_ini
    monkeypatch.setenv(common.CONFIG_VARIABLE, str(site.global_ini))
    assert common.load_settings(parse()).file == site.global_ini
    monkeypatch.delenv(common.CONFIG_VARIABLE)
    monkeypatch.chdir(site.directory)
    assert common.load_settings(parse()).file == site.global_ini


def test_without_any_configuration_it_is_said_how_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(common.CONFIG_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="with -c, or in the variable MISTAMOVER_CONFIG"):
        common.load_settings(parse())


def test_a_wrong_stream_name_is_answered_with_the_nearest_right_one(site: AskedSite) -> None:
    site.add("second")
    settings = site.settings()
    assert [s.name for s in common.streams_named(settings, [])] == ["one", "second"]
    assert [s.name for s in common.streams_named(settings, ["second", "second"])] == ["second"]
    with pytest.raises(UsageError, match="did you mean second"):
        common.streams_named(settings, ["secnd"])
    with pytest.raises(UsageError, match="the streams are: one, second"):
        common.streams_named(settings, ["x"])


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (200 * 1024**2, "200 MiB"),
        (3 * 1024**4, "3.0 TiB"),
        (5 * 1024**5, "5.0 PiB"),
    ],
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert common.human_bytes(size) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [(-1, "0s"), (0.25, "250ms"), (3.4, "3s"), (60, "1m"), (5 * 3600 + 59, "5h"), (4 * 86400, "4d")],
)
def test_ages_are_readable(age: float, text: str) -> None:
    assert common.human_age(age) == text


def test_a_table_is_aligned_and_has_no_blanks_at_the_ends() -> None:
    assert common.table(("NAME", "N"), [("a", "1"), ("longer", "100")]) == ["NAME      N", "a         1", "longer  100"]
    assert common.table(("NAME", "WHAT"), [("a", "b")], left=(0, 1)) == ["NAME  WHAT", "a     b"]


def test_text_cannot_disturb_a_terminal() -> None:
    assert common.printable("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
    assert common.printable(os.fsdecode(b"x\xff")) == "x\\xff"


def test_a_ledger_that_is_not_there_is_none_and_a_broken_one_is_an_error(tmp_path: Path) -> None:
    with common.reading(tmp_path) as ledger:
        assert ledger is None
    (tmp_path / common.LEDGER_FILE).write_bytes(b"no database" * 100)
    with pytest.raises(LedgerError, match="not a database"), common.reading(tmp_path) as ledger:
        assert ledger is not None
        ledger.totals()
    (tmp_path / common.LEDGER_FILE).write_bytes(b"")
    with pytest.raises(LedgerError, match="no such table"), common.reading(tmp_path) as ledger:
        assert ledger is not None
        ledger.totals()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_another_user_may_not_see_is_an_error_and_never_taken_for_absent(site: AskedSite) -> None:
    with site.served():
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                common.is_served(site.state / "streams" / "one")
                os.write(write, b"answered")
            except MistamoverError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            assert b"as the user of the service, or as root" in pipe.read()
