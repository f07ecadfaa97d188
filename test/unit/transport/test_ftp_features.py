"""What FTP servers say, and what it means."""

from __future__ import annotations

import pytest

from mistamover.config.access import FtpAccess, Tls
from mistamover.errors import LinkError, TargetError
from mistamover.model import Kind
from mistamover.transport import ftp_features
from mistamover.transport.far import FarRefusal
from mistamover.transport.ftp_features import Features
from mistamover.transport.ftp_session import FtpSession

PURE_FTPD = """211-Extensions supported:
 EPRT
 IDLE
 MDTM
 SIZE
 MFMT
 REST STREAM
 MLST type*;size*;sizd*;modify*;UNIX.mode*;UNIX.uid*;UNIX.gid*;unique*;
 MLSD
 PRET
 AUTH TLS
 UTF8
211 End."""

ACCESS = FtpAccess(
    port=21,
    tls=Tls.NONE,
    ca_file=None,
    username="me",
    password="hunter2",
    password_file=None,
    passive=True,
    connect_timeout=1,
)


def test_what_a_server_offers() -> None:
    found = Features.of(PURE_FTPD)
    assert (found.listings, found.times, found.resume, found.utf8, found.free) == (True, True, True, True, False)
    assert not found.hashes


def test_a_server_that_knows_no_feat() -> None:
    found = Features.of("")
    assert (found.listings, found.times, found.resume, found.utf8) == (False, False, False, False)


def test_hashes() -> None:
    found = Features.of("211-x\n HASH SHA-256*;SHA-1;MD5;CRC32\n XSHA512\n XCRC\n211 End")
    assert found.hashes == {"sha256": " SHA-256", "sha1": " SHA-1", "md5": " MD5", "sha512": "XSHA512"}


@pytest.mark.parametrize(
    "answer", ["250 {}", "213 SHA-256 0-49 {} file name", "250-{}\n250 done", "250 (file abcdef) {}"]
)
def test_a_hash_is_found_in_an_answer(answer: str) -> None:
    assert ftp_features.find_hash(answer.format("AB" * 32), "sha256") == "ab" * 32


@pytest.mark.parametrize("answer", ["250 done", "250 " + "ab" * 20, "250 " + "ab" * 33])
def test_no_hash_is_found_where_there_is_none(answer: str) -> None:
    assert ftp_features.find_hash(answer, "sha256") is None


@pytest.mark.parametrize(
    ("line", "kind", "size", "name"),
    [
        (b" Type=file;Size=12;Modify=20010909014640; a  b ", Kind.FILE, 12, b"a  b "),
        (b"type=dir;modify=20010909014640.123; ;x=y", Kind.DIRECTORY, 0, b";x=y"),
        (b"type=OS.unix=slink:/etc;size=4;modify=20010909014640; l", Kind.LINK, 4, b"l"),
        (b"Type=OS.unix=chr-13/29;modify=20010909014640; d", Kind.SPECIAL, 0, b"d"),
    ],
)
def test_lines_of_listings(line: bytes, kind: Kind, size: int, name: bytes) -> None:
    entry = ftp_features.entry(line)
    assert entry is not None
    there, found, _ = entry
    assert (there.kind, there.size, there.mtime, found) == (kind, size, 1_000_000_000.0, name)


def test_a_line_that_is_no_entry() -> None:
    assert ftp_features.entry(b"250-Listing") is None


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [(10**18 + 999, "20010909014640"), (-1, "19700101000000"), (10**30, "99991231235959")],
)
def test_times_are_written(time_ns: int, text: str) -> None:
    assert ftp_features.stamp(time_ns) == text


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("552 Exceeded storage allocation", TargetError),
        ("452 Insufficient storage space", TargetError),
        ("550 No space left on device", TargetError),
        ("426 No space left on device; transfer aborted", TargetError),
        ("425 Cannot open data connection", TargetError),
        ("421 Too many users", LinkError),
        ("530 Not logged in", LinkError),
        ("550 No such file", FarRefusal),
        ("553 File name not allowed", FarRefusal),
        ("501 hunter2 is no name", FarRefusal),
    ],
)
def test_what_a_refusal_means(said: str, meaning: type[Exception]) -> None:
    session = FtpSession("host", ACCESS)
    found = session._meaning(session._discreet(Exception(said)))
    assert type(found) is meaning or (meaning is FarRefusal and isinstance(found, FarRefusal))
    assert "hunter2" not in str(found)
