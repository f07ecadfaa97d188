"""From files and environment to settings: precedence, defaults, names of streams, paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mistamover.config.load import load
from mistamover.config.settings import DotFiles, LinkPolicy, StreamStatus, TransferMode, TransferUnit, WatchMode
from mistamover.errors import ConfigError
from unit.config.sites import STREAM, Site


def test_a_small_configuration_is_filled_up_with_defaults(site: Site) -> None:
    settings, stream = site.load(), site.stream()
    assert settings.file == site.global_file
    assert settings.state_dir == site.top / "state"
    assert settings.pid_file == site.top / "state/mistamover.pid"
    assert settings.log.directory == site.top / "log"
    assert (settings.log.level, settings.debug, settings.stop_timeout) == ("INFO", False, 10)
    assert settings.sources == (site.global_file, site.conf, site.conf / "ds_one.ini")
    assert settings.warnings == ()
    assert stream.directory == site.top / "data/one"
    assert stream.quarantine_dir == site.top / "data/one/quarantine"
    assert stream.state_dir == site.top / "state/streams/one"
    assert (stream.status, stream.mode, stream.unit) == (StreamStatus.RUNNING, TransferMode.MOVE, TransferUnit.FILE)
    assert (stream.dot_files, stream.symlinks, stream.watch) == (DotFiles.AUTO, LinkPolicy.KEEP, WatchMode.AUTO)
    assert (stream.settle_time, stream.minimum_age, stream.rescan_interval) == (5, 0, 60)
    assert (stream.empty_directory_age, stream.history_retention) == (10, 365 * 86400)
    assert stream.temporary_suffixes == (".tmp", ".part", ".partial", ".filepart", ".crdownload", "~")
    assert (stream.ignore, stream.completion_file, stream.stop_file) == ((), None, ".stop")
    assert (stream.mirror_delete, stream.mirror_max_delete, stream.retry_count) == (False, 100, 3)
    assert stream.priority == 100
    assert stream.reserved_suffixes == (".stager-ctrl-bss", ".stager-rcpt-bss", ".stager-thanks-bss")
    (target,) = stream.targets
    assert target.name == "target.example.org:/in"
    assert (target.protocol, target.hash, target.stop_file) == ("rsync_ssh", "xxh128", ".stop")
    assert (target.ssh.rsync, target.ssh.ssh, target.ssh.connect_timeout) == (("rsync",), ("ssh",), 15)
    assert (target.ssh.port, target.ssh.identity_file, target.ssh.bandwidth_limit) == (None, None, None)


def test_environment_beats_stream_file_beats_global_file_beats_default(site: Site) -> None:
    assert site.stream().retry_count == 3
    site.write_global("[outgoing]\nretry_count = 4\n")
    assert site.stream().retry_count == 4
    site.write_stream("retry_count = 5\n")
    assert site.stream().retry_count == 5
    site.environ["CONFIG__outgoing__retry_count"] = "6"
    assert site.stream().retry_count == 6


def test_zero_is_a_value_and_not_a_wish_for_the_default(site: Site) -> None:
    site.write_stream("retry_count = 0\n")
    assert site.stream().retry_count == 0


@pytest.mark.parametrize("text", ["", "None"])
def test_an_empty_value_asks_for_the_default(site: Site, text: str) -> None:
    site.write_global("[outgoing]\nretry_count = 7\n")
    site.write_stream(f"retry_count = {text}\n")
    assert site.stream().retry_count == 3


def test_the_environment_feeds_substitutions_and_folds_keys(site: Site) -> None:
    site.write_stream("[data_stream]\ndirectory = $(global:homedir)/d\n")
    site.environ["CONFIG__global__HOMEDIR"] = str(site.top / "env")
    assert site.stream().directory == site.top / "env/d"


def test_inherited_values_keep_the_meaning_of_the_global_file(site: Site) -> None:
    site.write_global(
        "homedir = /g\n[outgoing]\ntarget_dir = $(global:homedir)/t\nquarantine_dir = $(global:homedir)/q\n"
    )
    site.write_stream("quarantine_dir = $(global:homedir)/q\n[global]\nhomedir = /s\n")
    site.write("ds_one.ini", (site.conf / "ds_one.ini").read_text().replace("target_dir = /in\n", ""))
    stream = site.stream()
    assert stream.targets[0].directory == "/g/t"
    assert stream.quarantine_dir == Path("/s/q")


def test_a_name_that_looks_like_a_number_stays_text(site: Site) -> None:
    site.write_global(streams="2024")
    site.write_stream("[rsync_ssh]\nusername = 007\n", name="2024")
    assert site.stream("2024").targets[0].ssh.username == "007"


def test_relative_paths_start_at_the_directory_of_the_global_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write("key", "")
    site.write_stream(
        "target_dir = in/here\nquarantine_dir = q\n[data_stream]\ndirectory = ../d\n[rsync_ssh]\nidentity_file = key\n"
    )
    monkeypatch.chdir(site.conf)
    stream = load(Path("global.ini"), {}).streams[0]
    assert stream.directory.resolve() == site.top / "d"
    assert stream.quarantine_dir == site.conf / "q"
    assert stream.targets[0].directory == "in/here"
    assert stream.targets[0].ssh.identity_file == site.conf / "key"


def test_the_home_directory_is_meant_by_a_tilde_here_but_not_at_the_target(site: Site) -> None:
    site.write_stream("target_dir = ~/in\n[data_stream]\ndirectory = ~/out\n")
    stream = site.stream()
    assert stream.directory == Path.home() / "out"
    assert stream.targets[0].directory == "~/in"


def test_the_default_section_fills_variables_and_keys_of_the_same_file(site: Site) -> None:
    site.write_stream("target_dir = %(base)s/$(DEFAULT:base)\n[DEFAULT]\nbase = /b\nretry_count = 9\n")
    stream = site.stream()
    assert stream.targets[0].directory == "/b//b"
    assert stream.retry_count == 9


def test_the_protocol_none_has_no_target(site: Site) -> None:
    site.write("ds_one.ini", "[outgoing]\ntransfer_protocol = none\n")
    assert site.stream().targets == ()


def test_the_remote_shell_is_taken_out_of_the_command(site: Site) -> None:
    site.write_stream("[rsync_ssh]\ncmd = rsync -e 'ssh -J gate' --fsync\nport = 2222\nbandwidth_limit = 0\n")
    ssh = site.stream().targets[0].ssh
    assert (ssh.rsync, ssh.ssh) == (("rsync", "--fsync"), ("ssh", "-J", "gate"))
    assert (ssh.port, ssh.bandwidth_limit) == (2222, None)


def test_the_base_priority_is_the_default_of_the_priority(site: Site) -> None:
    site.write_global("[disk_space_monitor]\nbase_priority = 7\n")
    assert site.stream().priority == 7
    site.write_stream("[data_stream]\npriority = 0\n")
    assert site.stream().priority == 0


def test_a_pattern_with_a_blank_is_kept_together_by_quotes(site: Site) -> None:
    site.write_stream('[data_stream]\nignore = "a b*"\n')
    assert site.stream().ignore == ("a b*",)
    site.write_stream('[data_stream]\nignore = "a b*" *.bak,\n    core\n')
    assert site.stream().ignore == ("a b*", "*.bak", "core")


@pytest.mark.parametrize("file", ["ds_one.ini", "dataset_one.ini", "data_stream_one.ini", "one.ini"])
def test_a_stream_file_may_have_each_of_the_four_names(site: Site, file: str) -> None:
    (site.conf / "ds_one.ini").unlink()
    site.write(file, STREAM)
    assert site.stream().file == site.conf / file
    assert site.load().warnings == ()


def test_the_first_of_several_stream_files_is_used_and_the_others_are_named(site: Site) -> None:
    site.write("one.ini", "[broken")
    site.write("dataset_one.ini", "[broken")
    assert site.stream().file.name == "ds_one.ini"
    (warning,) = site.load().warnings
    assert "dataset_one.ini, one.ini ignored" in warning


@pytest.mark.parametrize("names", ["one two", "one,two", "one\n    two", "one, two"])
def test_names_are_separated_by_blanks_or_commas(site: Site, names: str) -> None:
    site.write_global(streams=names)
    site.write_stream(name="two")
    assert [stream.name for stream in site.load().streams] == ["one", "two"]


def test_a_name_listed_twice_is_used_once(site: Site) -> None:
    site.write_global(streams="one one")
    settings = site.load()
    assert len(settings.streams) == 1
    assert "named twice" in settings.warnings[0]


def test_an_empty_list_means_no_streams(site: Site) -> None:
    site.write_global(streams="")
    settings = site.load()
    assert settings.streams == ()
    assert "is empty" in settings.warnings[0]
    assert settings.warnings[0].startswith(f"{site.global_file}:3: [global] data_stream_list: ")


@pytest.mark.parametrize("key", ["data_stream_config_dir", "dataset_config_dir"])
def test_all_stream_files_of_a_directory_can_be_used(site: Site, key: str) -> None:
    site.write("global.ini", f"[global]\nbase_data_dir = /data\n{key} = .\n")
    for name in ("dataset_two.ini", "data_stream_3.ini", "four.ini"):
        site.write(name, STREAM)
    for name in (".ds_x.ini", "#ds_x.ini#", "ds_x.ini~", "ds_x.ini.bak", "README", ".#ds_x.ini", "#x.ini"):
        site.write(name, "[broken")
    settings = site.load()
    assert sorted(stream.name for stream in settings.streams) == ["3", "four", "one", "two"]
    assert len(settings.warnings) == (key == "dataset_config_dir")


def test_a_list_picks_from_the_directory_of_stream_files(site: Site) -> None:
    site.write_global("data_stream_config_dir = streams\n")
    (site.conf / "streams").mkdir()
    site.write("streams/ds_one.ini", STREAM)
    site.write("streams/ds_two.ini", STREAM)
    assert site.stream().file == site.conf / "streams/ds_one.ini"
    assert "only the streams named" in site.load().warnings[0]


def test_the_global_file_is_not_the_file_of_a_stream_called_global(site: Site) -> None:
    site.write_global(streams="global")
    assert 'the stream "global" has no file' in site.problem().message


def test_a_misplaced_new_key_is_used_where_it_belongs(site: Site) -> None:
    site.write_stream("settle_time = 9\nport = 22\n[rsync_ssh]\nhash = md5\n[data_stream]\nstop_timeout = 1\n")
    settings, stream = site.load(), site.stream()
    assert (stream.settle_time, stream.stop_timeout, stream.targets[0].hash) == (9, 1, "md5")
    assert stream.targets[0].ssh.port == 22
    assert [warning.rpartition(" (")[2] for warning in settings.warnings] == [
        "move it to [data_stream])",
        "move it to [rsync_ssh])",
        "move it to [outgoing])",
        "move it to [global])",
    ]


def test_a_key_in_its_place_beats_a_misplaced_one(site: Site) -> None:
    site.write_stream("settle_time = 9\n[data_stream]\nsettle_time = 8\n")
    assert site.stream().settle_time == 8
    site.write_stream("[data_stream]\nsettle_time = 8\n[rsync_ssh]\nsettle_time = 9\n")
    assert site.stream().settle_time == 8


def test_a_handshake_that_only_the_global_file_asks_for_is_no_problem(site: Site) -> None:
    site.write_global("[outgoing]\ntarget_uses_arrival_monitor = True\n")
    site.write_stream("target_uses_arrival_monitor = no\n")
    assert site.load().warnings == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[logging]\nport = 2000\n", "no port is opened"),
        ("[incoming]\nreceipt_file_extension = x\n", "the sender chooses"),
        ("[outgoing]\nthankyou_file_extension = x\n", "the receiver chooses"),
        ("[outgoing]\ntransfer_mode = move\n", "[rsync_ssh] transfer_mode"),
        ("oneoff = True\n", "command line"),
    ],
)
def test_what_has_no_effect_is_told_once(site: Site, text: str, words: str) -> None:
    site.write_global(text, streams="one two")
    site.write_stream(name="two")
    (warning,) = site.load().warnings
    assert words in warning
    assert warning.startswith(f"{site.global_file}:")


def test_a_key_of_the_service_in_a_stream_file_is_told(site: Site) -> None:
    site.write_stream("[global]\nstate_dir = /elsewhere\n")
    settings = site.load()
    assert settings.state_dir == site.top / "state"
    assert "global file only" in settings.warnings[0]


def test_the_name_in_the_list_wins(site: Site) -> None:
    site.write_stream("target_dir = /in/$(data_stream:name)\n[data_stream]\nname = Other\n")
    assert site.stream().name == "one"
    assert site.stream().targets[0].directory == "/in/Other"
    assert 'the stream is called "one"' in site.load().warnings[-1]


def test_nothing_new_gives_the_same_object(site: Site) -> None:
    settings = site.load()
    assert load(site.global_file, {}, last_good=settings) is settings
    site.write_stream("retry_count = 1\n")
    assert load(site.global_file, {}, last_good=settings) is not settings


@hypothesis_settings(deadline=None)
@given(
    retry=st.integers(0, 10**6), settle=st.floats(0, 1e6), ignore=st.lists(st.sampled_from(["*.a", "b c", "#d", ";e"]))
)
def test_values_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, retry: int, settle: float, ignore: list[str]
) -> None:
    site = Site(tmp_path_factory.mktemp("site"))
    site.conf.mkdir()
    site.write_global()
    words = " ".join(f'"{word}"' for word in ignore)
    site.write_stream(f"retry_count = {retry}\n[data_stream]\nsettle_time = {settle!r}\nignore = x {words}\n")
    stream = site.stream()
    assert (stream.retry_count, stream.settle_time, stream.ignore[1:]) == (retry, settle, tuple(ignore))


def test_zips_are_made_of_directory_units_only(site: Site) -> None:
    assert (site.stream().zips, site.stream().dir_size_limit) == (False, 0)
    site.write_stream("always_zip = True\ndir_size_limit = 1.5\n[data_stream]\ntransfer_unit = directory\n")
    assert (site.stream().zips, site.stream().dir_size_limit) == (True, 3 << 19)
    site.write_stream("always_zip = True\n")
    assert not site.stream().zips
    [warning] = site.load().warnings
    assert "always_zip" in warning
    assert "transfer_unit is file" in warning


def test_drafts_are_judged_as_if_they_were_there(site: Site) -> None:
    two = site.conf / "ds_two.ini"
    longer = site.global_file.read_bytes().replace(b"data_stream_list = one", b"data_stream_list = one two")
    settings = load(site.global_file, {}, drafts={site.global_file: longer, two: STREAM.encode()})
    assert [stream.name for stream in settings.streams] == ["one", "two"] and not two.exists()
    clash = f"{STREAM}\n[data_stream]\ndirectory = {site.top}/data/one\n".encode()
    with pytest.raises(ConfigError, match=r"ds_two.ini:7: .* also the directory of the stream"):
        load(site.global_file, {}, drafts={site.global_file: longer, two: clash})
    elsewhere = site.top / "new/conf/global.ini"
    drafts = {elsewhere: longer, **{elsewhere.with_name(f"ds_{name}.ini"): STREAM.encode() for name in ("one", "two")}}
    assert len(load(elsewhere, {}, drafts=drafts).streams) == 2 and not elsewhere.parent.exists()
