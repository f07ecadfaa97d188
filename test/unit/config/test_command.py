"""The rsync command: its remote shell taken out, and options that break the promises refused."""

from __future__ import annotations

import shlex

import pytest

from mistamover.config.command import split


@pytest.mark.parametrize(
    ("cmd", "rsync", "ssh"),
    [
        ("rsync", "rsync", "ssh"),
        ("/usr/bin/rsync -z", "/usr/bin/rsync -z", "ssh"),
        ("rsync -e 'ssh -i key'", "rsync", "ssh -i key"),
        ("rsync -e'ssh -i key' -z", "rsync -z", "ssh -i key"),
        ("rsync -aze 'ssh -i key'", "rsync -a -z", "ssh -i key"),
        ("rsync --rsh 'ssh -p 2222'", "rsync", "ssh -p 2222"),
        ("rsync --rsh='ssh -p 2222' --compress", "rsync --compress", "ssh -p 2222"),
        ("rsync -e a -e b", "rsync", "b"),
        ("nice -n 10 rsync -z", "nice -n 10 rsync -z", "ssh"),
        ("rsync --rsync-path='sudo rsync' --no-perms", "rsync '--rsync-path=sudo rsync' --no-perms", "ssh"),
        ("rsync -@ 1 -B 4096", "rsync -@ 1 -B 4096", "ssh"),
        ("rsync --timeout 30 -M--fsync", "rsync --timeout 30 -M--fsync", "ssh"),
    ],
)
def test_a_command_is_taken_apart(cmd: str, rsync: str, ssh: str) -> None:
    programs, refused = split(tuple(shlex.split(cmd)))
    assert refused == []
    assert (programs.rsync, programs.ssh) == (tuple(shlex.split(rsync)), tuple(shlex.split(ssh)))


@pytest.mark.parametrize(
    "option",
    [
        "--remove-source-files", "--remove-sent-files", "--delete", "--delete-after", "--delete-excluded", "--del",
        "--size-only", "--inplace", "--append", "--append-verify", "--partial", "--partial-dir=x", "--partial-dir x",
        "-P", "--temp-dir=/x", "-T /x", "-T/x", "--files-from=x", "--dry-run", "-n", "-azn", "--list-only", "--backup",
        "-b", "--link-dest=x", "--fake-super", "-M--fake-super", "--remote-option=--fake-super", "--exclude=x",
        "-f '- x'", "--update", "-u", "--max-size=1", "--copy-links", "-L", "--out-format=x", "--iconv=x", "-e ''",
        "-e 'ssh \"'", "-e",
    ],
)  # fmt: skip
def test_an_option_that_breaks_a_promise_is_refused_with_the_reason(option: str) -> None:
    _, refused = split(tuple(shlex.split(f"rsync {option}")))
    assert len(refused) == 1
    assert refused[0].option.startswith("-") and refused[0].why


def test_all_options_are_refused_at_once() -> None:
    _, refused = split(("rsync", "-nb", "--delete", "--inplace"))
    assert [refusal.option for refusal in refused] == ["-n", "-b", "--delete", "--inplace"]
