"""What is wrong is said with file, line, section, key and what was expected, and all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mistamover.config.load import load
from mistamover.errors import ConfigError
from unit.config.sites import STREAM, Site


@pytest.mark.parametrize(
    ("more", "line", "section", "key", "words", "hint"),
    [
        ("retry_cuont = 3\n", 5, "outgoing", "retry_cuont", "unknown key", 'did you mean "retry_count"?'),
        ("priority = 3\n", 5, "outgoing", "priority", "unknown key", "it belongs in [data_stream]"),
        ("zzz = 3\n", 5, "outgoing", "zzz", "unknown key", "[DEFAULT]"),
        ("[outgoin]\n", 5, "outgoin", "", "unknown section", 'did you mean "outgoing"?'),
        ("[[here]]\nx = 1\n", 5, "outgoing/here", "", "unknown subsection", "one pair of brackets"),
        ("[rsync_ssh]\nsize-only = 1\n", 6, "rsync_ssh", "size-only", "unknown key", 'did you mean "check_size"?'),
        ("[rsync_ssh]\nchecksum = 1\n", 6, "rsync_ssh", "checksum", "unknown key", 'did you mean "use_checksum"?'),
        ("retry_count = many\n", 5, "outgoing", "retry_count", '"many" is not a whole number, expected', ""),
        ("mirror_delete = maybe\n", 5, "outgoing", "mirror_delete", "expected True or False", ""),
        ("hash = md4\n", 5, "outgoing", "hash", "expected one of xxh128, md5, sha1", 'did you mean "md5"?'),
        ("[data_stream]\nstatus = STOPED\n", 6, "data_stream", "status", "not known", 'did you mean "STOPPED"?'),
        ("[data_stream]\nsettle_time = -1\n", 6, "data_stream", "settle_time", "expected seconds", ""),
        ("[rsync_ssh]\nport = 0\n", 6, "rsync_ssh", "port", "from 1 to 65535", ""),
        ("[rsync_ssh]\nport = 65536\n", 6, "rsync_ssh", "port", "from 1 to 65535", ""),
        ("[rsync_ssh]\ntransfer_mode = copy\n", 6, "rsync_ssh", "transfer_mode", "move, mirror", ""),
        ("[rsync_ssh]\ncmd = rsync --delete\n", 6, "rsync_ssh", "cmd", "--delete is not allowed", "take the"),
        ("[rsync_ssh]\ncmd = rsync 'x\n", 6, "rsync_ssh", "cmd", "open quote", ""),
        ("[rsync_ssh]\nidentity_file = nokey\n", 6, "rsync_ssh", "identity_file", "there is no file", "correct"),
        ("[rsync_ssh]\nssh_config = /\n", 6, "rsync_ssh", "ssh_config", "there is no file", "correct"),
        ("transfer_protocol = rsync\n", 5, "outgoing", "transfer_protocol", "not known", 'did you mean "rsync_ssh"?'),
        ("target_host = -x\n", 5, "outgoing", "target_host", "not a host", ""),
        ("target_uses_arrival_monitor = True\n[data_stream]\ntransfer_unit = directory\n", 5, "outgoing",
         "target_uses_arrival_monitor", "no receipts for directories", "checksum_algorithm = sha256"),
        ("mirror_delete = True\ntarget_uses_arrival_monitor = True\n", 5, "outgoing", "mirror_delete",
         "cannot be removed", "False"),
        ("checksum_algorithm = crc32\n", 5, "outgoing", "checksum_algorithm", "expected one of md5, sha256", ""),
        ("[incoming]\ndirectory = $(data_stream:directory)/in\nrequire_arrival_monitor = on\n", 6, "incoming",
         "directory", "lie in one another", "another directory"),
        ("transfer_mode = mirror\n", 5, "outgoing", "transfer_mode", "files would be removed", "= mirror"),
        ("target_dir = $(global:tpo)/x\n", 5, "outgoing", "target_dir", "$(global:tpo)", 'did you mean "global:top"?'),
        ("target_dir = $(outgoing:target_dir)\n", 5, "outgoing", "target_dir", "circle", "without a reference"),
        ("target_dir = {{eval:1}}\n", 5, "outgoing", "target_dir", "not evaluated", "write the value itself"),
        ("stop_file = a/b\n", 5, "outgoing", "stop_file", "without a directory", ""),
        ("[data_stream]\ndirectory = ..\n", 6, "data_stream", "directory", "would be sent away", "move one"),
        ("quarantine_dir = $(data_stream:directory)/\n", 5, "outgoing", "quarantine_dir", "own directory", "leave"),
        ("nonsense\n", 5, "outgoing", "", "not understood, expected key = value", ""),
    ],
)  # fmt: skip
def test_a_problem_in_a_stream_file(
    site: Site, more: str, line: int, section: str, key: str, words: str, hint: str
) -> None:
    site.write_stream(more)
    problem = site.problem()
    assert (problem.file, problem.line) == (str(site.conf / "ds_one.ini"), line)
    assert (problem.section, problem.key) == (section, key)
    assert words in problem.message
    assert hint in problem.hint
    assert "\n" not in str(problem)


def test_a_line_of_the_report_reads_well(site: Site) -> None:
    site.write_stream("retry_cuont = 3\n")
    assert str(site.problem()) == (
        f"{site.conf}/ds_one.ini:5: [outgoing] retry_cuont: unknown key, expected a key of [outgoing] "
        '(did you mean "retry_count"?)'
    )


@pytest.mark.parametrize("missing", ["transfer_protocol", "target_host", "target_dir"])
def test_a_required_key_that_is_missing(site: Site, missing: str) -> None:
    lines = [line for line in STREAM.splitlines(keepends=True) if not line.startswith(missing)]
    site.write("ds_one.ini", "".join(lines))
    problem = site.problem()
    assert (problem.file, problem.key) == (str(site.conf / "ds_one.ini"), missing)
    assert "is not set, expected" in problem.message


def test_a_required_key_that_is_empty_is_reported_at_its_line(site: Site) -> None:
    site.write_stream("target_dir =\n")
    assert site.problem().line == 5


def test_a_value_that_cannot_be_used_is_not_reported_as_missing_too(site: Site) -> None:
    site.write_stream("target_dir = $(x:y)\ntarget_host = a b\n")
    assert [problem.line for problem in site.problems()] == [5, 6]


def test_a_stream_without_any_directory(site: Site) -> None:
    site.write("global.ini", "[global]\ndata_stream_list = one\n")
    problem = site.problem()
    assert (problem.section, problem.key) == ("data_stream", "directory")
    assert "base_data_dir" in problem.message


def test_a_problem_of_the_global_file_is_told_once_for_all_streams(site: Site) -> None:
    site.write_global("[outgoing]\nretry_count = x\nstop_file = $(no:no)\n", streams="one two")
    site.write_stream(name="two")
    assert [(p.file, p.line) for p in site.problems()] == [(str(site.global_file), 5), (str(site.global_file), 6)]


def test_everything_is_told_at_once_in_the_order_of_files_and_lines(site: Site) -> None:
    site.write_global("[outgoing]\nretry_count = x\n[nowhere]\n", streams="one two three !")
    site.write_stream("hash = crc\ntarget_dir = $(a:b)\nwrong\n")
    site.write_stream("[rsync_ssh]\ncmd = rsync -n --inplace\n", name="two")
    found = [(Path(problem.file).name, problem.line) for problem in site.problems({"CONFIG__global__x": "1"})]
    assert found == [
        ("ds_one.ini", 5),
        ("ds_one.ini", 6),
        ("ds_one.ini", 7),
        ("ds_two.ini", 6),
        ("ds_two.ini", 6),
        ("global.ini", 3),
        ("global.ini", 3),
        ("global.ini", 5),
        ("global.ini", 6),
        ("environment CONFIG__global__x", None),
    ]


def test_a_missing_global_file_is_the_only_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(Path("global.ini"), {})
    (problem,) = caught.value.problems
    assert problem.file == str(tmp_path / "global.ini")
    assert "does not exist" in problem.message
    assert "create it" in problem.hint


def test_no_list_of_streams_and_no_directory_of_streams(site: Site) -> None:
    site.write("global.ini", "[global]\nbase_data_dir = /data\n")
    assert (site.problem().key, site.problem().line) == ("data_stream_list", None)


def test_a_missing_configuration_directory_is_one_problem(site: Site) -> None:
    site.write_global("config_dir = /no/such/dir\n", streams="one two")
    problem = site.problem()
    assert (problem.key, problem.line) == ("config_dir", 4)
    assert "/no/such/dir cannot be listed" in problem.message


def test_a_stream_without_a_file_names_what_was_tried(site: Site) -> None:
    site.write_global(streams="one two")
    problem = site.problem()
    assert (problem.file, problem.line, problem.key) == (str(site.global_file), 3, "data_stream_list")
    assert f"none of ds_two.ini, dataset_two.ini, data_stream_two.ini, two.ini is in {site.conf}" in problem.message


@pytest.mark.parametrize("name", ["../x", "-x", ".x", "a/b", "é", "x" * 101])
def test_a_name_that_cannot_be_used(site: Site, name: str) -> None:
    site.write_global(streams=f"one {name}")
    problem = site.problem()
    assert (problem.key, problem.line) == ("data_stream_list", 3)
    assert "cannot be used" in problem.message


@pytest.mark.parametrize(
    ("directories", "words"),
    [
        (("/data/x", "/data/x/"), "is also the directory of"),
        (("/data/x", "/data/x/y"), "lies inside"),
        (("/data/x/y/z", "/data/x"), "holds"),
    ],
)
def test_two_streams_in_one_place(site: Site, directories: tuple[str, str], words: str) -> None:
    site.write_global(streams="one two")
    for name, directory in zip(("one", "two"), directories, strict=True):
        site.write_stream(f"[data_stream]\ndirectory = {directory}\n", name=name)
    problem = site.problem()
    assert (problem.file, problem.line) == (str(site.conf / "ds_two.ini"), 6)
    assert words in problem.message
    assert 'the stream "one"' in problem.message


@pytest.mark.parametrize(
    ("one", "two", "section", "words"),
    [
        (("/d/one", "/in"), ("/d/two", "/in/"), "incoming", '/in is also the incoming directory of the stream "one" ('),
        (("/d/one", "/in"), ("/d/two", "/in/two"), "incoming", "/in/two lies inside /in, the incoming directory"),
        (("/d/one", "/in/one"), ("/d/two", "/in"), "incoming", "/in holds /in/one, the incoming directory"),
        (("/d/one", "/in"), ("/in", "/in2"), "data_stream", "/in is also the incoming directory"),
        (("/d/one", "/in"), ("/d/two", "/d/one/in"), "incoming", "lies inside /d/one, the directory"),
    ],
)
def test_two_streams_that_take_in_from_one_place(
    site: Site, one: tuple[str, str], two: tuple[str, str], section: str, words: str
) -> None:
    site.write_global(streams="one two")
    for name, (directory, incoming) in {"one": one, "two": two}.items():
        more = f"[data_stream]\ndirectory = {directory}\n[incoming]\nrequire_arrival_monitor = yes\n"
        site.write_stream(f"{more}directory = {incoming}\n", name=name)
    problem = site.problem()
    assert (problem.file, problem.section) == (str(site.conf / "ds_two.ini"), section)
    assert words in problem.message
    assert f'the stream "one" ({site.conf}/ds_one.ini): it and the stream "two" would fight' in problem.message


def test_what_is_refused_is_only_the_newcomer(site: Site) -> None:
    site.write_global(streams="one")
    monitor = f"[incoming]\nrequire_arrival_monitor = yes\ndirectory = {site.top}/in\n"
    site.write_stream(monitor)
    before = site.load()
    site.write_global(streams="two one")
    site.write_stream(monitor, name="two")
    settings, problems = site.lenient(before)
    assert [stream.name for stream in settings.streams] == ["one"]
    assert [problem.file for problem in problems] == [str(site.conf / "ds_two.ini")]


def test_two_streams_in_one_place_by_a_link(site: Site) -> None:
    (site.top / "link").symlink_to(site.top / "data")
    site.write_global(streams="one two")
    site.write_stream(f"[data_stream]\ndirectory = {site.top}/link/one\n", name="two")
    assert "fight for the same files" in site.problem().message


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("CONFIG__globl__top", "unknown section"),
        ("CONFIG__global__tpo", "unknown key"),
        ("CONFIG__global", "is not complete"),
        ("CONFIG__", "is not complete"),
        ("CONFIG__global__stop_timeout", "expected seconds"),
    ],
)
def test_a_problem_in_the_environment(site: Site, variable: str, words: str) -> None:
    problem = site.problem({variable: "x"})
    assert (problem.file, problem.line) == (f"environment {variable}", None)
    assert words in problem.message


def test_other_variables_of_the_environment_are_not_looked_at(site: Site) -> None:
    assert site.load({"CONFIG": "x", "config__global__x": "x", "HOME": "\udcff"}).warnings == ()


def test_a_value_of_the_environment_that_is_not_text(site: Site) -> None:
    assert "cannot be printed" in site.problem({"CONFIG__global__top": "\udcff"}).message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_password_that_others_can_read(site: Site, mode: int) -> None:
    site.write_stream("[ftp]\npassword = hunter2\n").chmod(mode)
    problem = site.problem()
    assert problem.line == 6
    assert problem.hint == f"run: chmod go-rwx {site.conf}/ds_one.ini"


def test_a_file_without_a_password_may_be_read_by_all(site: Site) -> None:
    site.write_stream("[ftp]\npassword =\n").chmod(0o644)
    site.load()
    site.write_stream("[ftp]\npassword = hunter2\n").chmod(0o600)
    site.load()


@pytest.mark.parametrize(
    "more",
    [
        "[ftp]\npassword = hunter2\n[outgoing]\nretry_count = $(ftp:password)\n",
        "[ftp]\npassword = hunter2\n[outgoing]\ntarget_host = -$(ftp:password)\nhash = $(outgoing:target_host)\n",
        "[ftp]\npassword hunter2\n",
        "[ftp]\npassword = hunter2 {{eval:x}}\n",
        "[ftp]\npassword = hunter2 $(x:y)\n",
        "[outgoing]\npassword = hunter2\n",
        "[pft]\npassword = hunter2\n",
        "[ftp]\npassword = hunter2\npassword = hunter2\nwrong = 1\n",
    ],
)
def test_no_message_shows_a_password(site: Site, more: str) -> None:
    site.write_stream(more).chmod(0o644)
    assert "hunter2" not in "\n".join(str(problem) for problem in site.problems())
