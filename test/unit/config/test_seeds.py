"""The two files of the getting-started page work as printed, indentation included."""

from __future__ import annotations

from pathlib import Path

import pytest

from mistamover.config.load import load
from mistamover.config.settings import Settings, StreamStatus, TransferMode

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    conf = tmp_path / "mistamover" / "conf"
    conf.mkdir(parents=True)
    text = (DATA / "seed_global.ini").read_text().replace("/home/users/me", str(tmp_path))
    (conf / "global.ini").write_text(text)
    (conf / "dataset_my_outputs.ini").write_text((DATA / "seed_stream.ini").read_text())
    return load(conf / "global.ini", {})


def test_the_printed_files_are_indented_as_on_the_page() -> None:
    assert "  [global] \n" in (DATA / "seed_global.ini").read_text()
    assert "  [data_stream]\n" in (DATA / "seed_stream.ini").read_text()


def test_the_service_is_set_up_as_printed(settings: Settings, tmp_path: Path) -> None:
    assert settings.rescan_interval == 3
    assert settings.log.directory == tmp_path / "mistamover/log"
    assert settings.log.level == "INFO"
    assert settings.state_dir == tmp_path / "work/state"
    assert [stream.name for stream in settings.streams] == ["my_outputs"]


def test_the_stream_is_set_up_as_printed(settings: Settings, tmp_path: Path) -> None:
    stream = settings.streams[0]
    assert stream.file == tmp_path / "mistamover/conf/dataset_my_outputs.ini"
    assert stream.directory == tmp_path / "work/outgoing/my_outputs"
    assert stream.status is StreamStatus.RUNNING
    assert stream.mode is TransferMode.MIRROR
    assert stream.priority == 200
    assert stream.retry_count == 3
    assert ".mistamover-ctrl-bes" in stream.reserved_suffixes
    assert ".mistamover-thanks-bss" in stream.reserved_suffixes
    (target,) = stream.targets
    assert target.host == "localhost"
    assert target.directory == str(tmp_path / "work/remote/my_outputs")
    assert target.stop_file_poll_interval == 600
    assert (target.ssh.rsync, target.ssh.ssh, target.ssh.username) == (("/usr/bin/rsync",), ("ssh",), "ME")
    assert target.ssh.use_checksum


def test_each_thing_that_has_no_effect_is_told_once(settings: Settings) -> None:
    told = [warning.partition(": ")[2] for warning in settings.warnings]
    assert [text.partition(":")[0] for text in told] == [
        "[outgoing] thankyou_file_extension",
        "[logging] port",
    ]
