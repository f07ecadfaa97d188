"""What is learnt from the words with which an rsync refuses an option, and which fault an error is."""

from __future__ import annotations

import pytest

from mistamover.errors import LinkError, TargetError
from mistamover.transport.rsync_terms import Terms, explain

ARGV = [
    "rsync",
    "-I",
    "--secluded-args",
    "--fsync",
    "--checksum-choice=xxh128",
    "--temp-dir=/x",
    "--delete-missing-args",
]


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        (b"rsync: The server is configured to refuse --fsync", "--fsync"),
        (b"rsync: The server is configured to refuse --temp-dir (-T)", "--temp-dir"),
        (b"rsync: The server is configured to refuse --delete", "--delete"),
        (b"rsync: on remote machine: --fsync: unknown option", "--fsync"),
        (b"rsync: on remote machine: --checksum-choice=xxh128: unknown option", "--checksum-choice"),
        (b"rsync: --fsync: unknown option", "--fsync"),
        (b"rsync: [Receiver] on remote machine: --fsync: unknown option", "--fsync"),
        (b"Your --checksum-choice value (xxh128) was refused by the server.", "--checksum-choice"),
        (b"unknown checksum name: xxh128", "--checksum-choice"),
        (b"/usr/bin/rrsync error: option -s has been disabled on this server.", "--secluded-args"),
        (b"/usr/bin/rrsync error: option --delete-missing-args has been disabled on this server.", "--delete"),
        (b"/usr/bin/rrsync error: invalid rsync-command syntax or options", "--fsync"),
        (b"rsync: on remote machine: --never-asked: unknown option", ""),
        (b"rsync: connection unexpectedly closed (0 bytes received so far) [sender]", ""),
    ],
)
def test_the_refused_option_is_learnt(said: bytes, refused: str) -> None:
    terms = Terms(hash="xxh128")
    assert terms.learn(said + b"\nrsync error: code 4\n", ARGV) == refused
    assert not refused or not terms.allows(refused)


def test_what_was_given_up_is_not_refused_again() -> None:
    terms = Terms(hash="xxh128")
    said = b"rsync: The server is configured to refuse --fsync"
    assert terms.learn(said, ARGV) == "--fsync"
    assert terms.learn(said, ARGV) == ""


def test_an_old_rsync_proves_by_md5() -> None:
    terms = Terms(hash="xxh128")
    assert terms.hashing() == ["--checksum-choice=xxh128"] and terms.environment() == {} and terms.algorithm == ""
    terms.give_up("--checksum-choice")
    assert terms.hashing() == [] and terms.environment() == {"RSYNC_CHECKSUM_LIST": "md5"}
    assert terms.algorithm == "md5"


@pytest.mark.parametrize(
    ("words", "kind", "hint"),
    [
        ("@ERROR: auth failed on module m", TargetError, "check username and password"),
        ("@ERROR: Unknown module 'nomod'", TargetError, "first part of target_dir"),
        ("ERROR: module is read only", TargetError, "read only = no"),
        ("@ERROR: max connections (1) reached -- try again later", LinkError, "others use all connections"),
        ("failed to connect to 127.0.0.1 (127.0.0.1): Connection refused (111)", LinkError, "rsync daemon"),
        ("connection unexpectedly closed (0 bytes received so far) [sender]", LinkError, ""),
    ],
)
def test_an_error_says_whose_fault_it_is_and_what_to_do(words: str, kind: type[Exception], hint: str) -> None:
    error = explain(words)
    assert type(error) is kind and hint in str(error)
