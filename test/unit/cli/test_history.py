"""`mistamover history`: what was delivered, for people, for programs, and for `md5sum -c`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from mistamover.cli import history, manifest, selection
from mistamover.errors import UsageError
from mistamover.model import Kind
from unit.cli.conftest import AskedSite, confirmed, deliver

AWKWARD = [
    b"plain",
    b"with blank",
    b" leading blank",
    b"trailing blank ",
    b"new\nline",
    b"back\\slash",
    b"back\\nslash-n",
    b"both\\\n",
    b"carriage\rreturn",
    b"ends in carriage return\r",
    b"-n",
    b"--check",
    b"-",
    b"*star",
    b"#hash",
    b"\\leading",
    b"\xff\xfe not utf-8",
    "größe".encode(),
    b"deep/er/" + b"n" * 255,
    b"quote'\"$(x)`",
]


def ask_json(site: AskedSite, capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert site.here(history, "--json", *words) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def ask(site: AskedSite, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert site.here(history, *words) == 0
    return capsys.readouterr().out


def test_an_empty_history_says_so(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(site, capsys) == "Nothing was delivered yet.\n"
    assert ask_json(site, capsys) == []
    assert ask(site, capsys, "--name", "x") == "Nothing that was delivered matches.\n"


def test_streams_are_merged_the_newest_first(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    site.add("two")
    for number in range(4):
        deliver(site, confirmed(b"f%d" % number), stream=("one", "two")[number % 2], now=1_000_000.0 + number)
    assert [(r["stream"], r["name"]) for r in ask_json(site, capsys)] == [
        ("two", "f3"),
        ("one", "f2"),
        ("two", "f1"),
        ("one", "f0"),
    ]
    assert [r["name"] for r in ask_json(site, capsys, "two")] == ["f3", "f1"]
    assert [r["name"] for r in ask_json(site, capsys, "--limit", "1")] == ["f3"]


def test_a_record_holds_everything(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    item = confirmed(b"x/\xff", size=7, digest="cd" * 20, attempts=1, first_seen=1_000_000.5)
    deliver(site, item, now=1_000_010.0, algorithm="sha1", kept={b"x/\xff": "changed"})
    (record,) = ask_json(site, capsys)
    at = record.pop("delivered_at")
    assert record == {
        "name": "x/\\xff",
        "name_hex": "782fff",
        "stream": "one",
        "size": 7,
        "kind": "file",
        "algorithm": "sha1",
        "digest": "cd" * 20,
        "target": site.stream().targets[0].name,
        "lane": "bulk",
        "attempts": 1,
        "first_seen": 1_000_000.5,
        "started": 1_000_009.0,
        "confirmed": 1_000_010.0,
        "handed_over": 1_000_011.0,
        "kept": "changed",
    }
    assert selection.moment(at, 0.0) == 1_000_010.0


def test_names_are_matched_whole_and_as_text(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    deliver(site, *(confirmed(name) for name in (b"a.nc", b"d/b.nc", b"d/b.txt", b"\xff.nc", "ä.nc".encode())))

    def names(glob: str) -> set[str]:
        return {record["name"] for record in ask_json(site, capsys, "--name", glob)}

    assert names("*.nc") == {"a.nc", "d/b.nc", "\\xff.nc", "ä.nc"}
    assert names("d/*") == {"d/b.nc", "d/b.txt"}
    assert names("?.nc") == {"a.nc", "\\xff.nc", "ä.nc"}
    assert names("b.nc") == set()
    assert names(os.fsdecode(b"\xff*")) == {"\\xff.nc"}


def test_the_table_says_what_was_cut(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    deliver(site, *(confirmed(b"f%03d" % n) for n in range(51)), confirmed(b"evil\n\x1b[2J", kind=Kind.LINK, digest=""))
    text = ask(site, capsys)
    assert len(text.splitlines()) == 1 + 50 + 2
    assert "these are the newest 50" in text
    assert "evil\\n\\x1b[2J" in text
    assert "\x1b" not in text
    text = ask(site, capsys, "--limit", "52")
    assert "There is more" not in text
    assert "md5:" + "ab" * 16 in text


def test_the_table_is_for_people(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    tree = confirmed(b"run7", kind=Kind.TREE, digest="", parts=(confirmed(b"run7/a", size=2048),))
    deliver(
        site, tree, confirmed(b"late", attempts=2, first_seen=1_000_000.0), kept={b"late": "changed after it was sent"}
    )
    header, late, part, unit = ask(site, capsys).splitlines()
    assert header.split() == ["DELIVERED", "STREAM", "SIZE", "TOOK", "TARGET", "HASH", "NAME"]
    assert late.endswith("  late  (2 failed before; changed after it was sent)")
    assert late.split()[2:6] == ["one", "5", "B", "10s"]
    assert part.split()[3:5] == ["2.0", "KiB"]
    assert part.endswith(" run7/a")
    assert (unit.split()[3], unit.split()[-2:]) == ("unit", ["-", "run7"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", 1e9 - 90),
        ("2h", 1e9 - 7200),
        ("1.5d", 1e9 - 129600),
        ("2 W", 1e9 - 14 * 86400),
        ("2026-11-22", time.mktime((2026, 11, 22, 0, 0, 0, 0, 0, -1))),
        ("2026-11-22T10:00", time.mktime((2026, 11, 22, 10, 0, 0, 0, 0, -1))),
        ("2026-11-22 10:00:30", time.mktime((2026, 11, 22, 10, 0, 30, 0, 0, -1))),
        ("2026-11-22T10:00+00:00", 1795341600.0),
    ],
)
def test_moments_are_written_as_people_do(text: str, expected: float) -> None:
    assert selection.moment(text, 1e9) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "5", "-2h", "9999999999d"])
def test_what_is_no_moment_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="write 2026-11-22"):
        selection.moment(text, 1e9)


def test_since_and_limit_choose(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    deliver(site, confirmed(b"old"), now=now - 7000)
    deliver(site, confirmed(b"new"), now=now - 60)
    assert [r["name"] for r in ask_json(site, capsys, "--since", "1h")] == ["new"]
    assert [r["name"] for r in ask_json(site, capsys, "--since", "2h")] == ["new", "old"]
    with pytest.raises(UsageError, match="--limit"):
        site.here(history, "--limit", "0")


# -- manifests --------------------------------------------------------------------------------


def written(site: AskedSite, capfdbinary: pytest.CaptureFixture[bytes], *words: str) -> tuple[bytes, str]:
    assert site.here(history, "--manifest", *words) == 0
    out, err = capfdbinary.readouterr()
    return out, err.decode()


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_a_manifest_is_accepted_by_the_real_tool_for_awkward_names(
    site: AskedSite, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, algorithm: str
) -> None:
    target = tmp_path / "target"
    items = []
    for name in AWKWARD:
        path = os.fsencode(target) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"content of " + name)
        digest = hashlib.new(algorithm, b"content of " + name).hexdigest()
        items.append(confirmed(name, digest=digest))
    deliver(site, *items, algorithm=algorithm)
    out, err = written(site, capfdbinary)
    assert f"{algorithm}sum -c MANIFEST" in err
    (tmp_path / "manifest").write_bytes(out)
    check = [f"{algorithm}sum", "--check", "--strict", str(tmp_path / "manifest")]
    done = subprocess.run(check, cwd=target, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b": OK\n") == len(AWKWARD)
    (target / "plain").write_text("something else")
    assert subprocess.run(check, cwd=target, capture_output=True, check=False).returncode == 1


def test_a_manifest_has_the_latest_of_each_file_and_nothing_else(
    site: AskedSite, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    deliver(site, confirmed(b"twice", digest="00" * 16), confirmed(b"became-a-link"))
    tree = confirmed(b"run7", kind=Kind.TREE, digest="", parts=(confirmed(b"run7/a", digest="22" * 16),))
    link = confirmed(b"became-a-link", kind=Kind.LINK, digest="")
    deliver(site, confirmed(b"twice", digest="11" * 16), link, tree, now=1_000_020.0)
    deliver(site, confirmed(b"elsewhere"), target="other-host", now=1_000_030.0)
    out, err = written(site, capfdbinary)
    assert out == b"22" * 16 + b"  run7/a\n" + b"11" * 16 + b"  twice\n"
    assert f"left out: 1 record of deliveries to another target than {site.stream().targets[0].name}\n" in err
    assert "2 files; to check them, run in the target directory (on 127.0.0.1: " in err


def test_a_manifest_holds_one_kind_of_hash(site: AskedSite, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    deliver(site, confirmed(b"a"), confirmed(b"changed"), algorithm="md5", now=1.0)
    deliver(site, confirmed(b"b"), confirmed(b"changed"), algorithm="xxh128", now=2.0)
    with pytest.raises(UsageError, match=r"several kinds \(md5, xxh128\): choose one with --algorithm"):
        site.here(history, "--manifest")
    out, err = written(site, capfdbinary, "--algorithm", "MD5")
    assert out.splitlines() == [b"ab" * 16 + b"  a"], "an earlier version must not be checked against the latest"
    out, err = written(site, capfdbinary, "--algorithm", "xxh128")
    assert len(out.splitlines()) == 2
    assert "xxh128sum -c MANIFEST; it comes with the package xxhash" in err
    out, err = written(site, capfdbinary, "--name", "b", "--limit", "1")
    assert out.splitlines() == [b"ab" * 16 + b"  b"]


def test_a_manifest_is_for_one_stream_and_may_be_empty(
    site: AskedSite, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    out, err = written(site, capfdbinary)
    assert out == b""
    assert "the manifest is empty" in err
    site.add("two")
    with pytest.raises(UsageError, match=r"name one stream \(one, two\)"):
        site.here(history, "--manifest")


def test_the_manifest_of_a_mirror_leaves_out_what_it_has_removed_at_the_target(
    site: AskedSite, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    site.add("copy", outgoing={"mirror_delete": True}, rsync_ssh={"transfer_mode": "mirror"})
    deliver(site, confirmed(b"d/stays"), confirmed(b"d/goes"), stream="copy", mirror=True)
    with site.ledger("copy") as ledger:
        ledger.forget_mirrored([b"d/goes"], site.stream("copy").targets[0].name)
    out, _ = written(site, capfdbinary, "copy")
    assert out == b"ab" * 16 + b"  d/stays\n"


def test_a_plain_name_is_not_marked() -> None:
    assert manifest.line("00", b"a b") == b"00  a b\n"
    assert manifest.line("00", b"a\nb\\") == b"\\00  a\\nb\\\\\n"
