"""Agents of 2016 at the other end: nothing is lost to their defects, and nothing is touched by what they write."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import laws
from agents import agent_of
from integration.test_handshake import Pair
from mistamover.testing.sshd import PrivateSshd
from old_peers import CTRL, OldMonitor, OldSender
from support import wait_until


@contextlib.contextmanager
def polling(monitor: OldMonitor, every: float = 0.2) -> Iterator[None]:
    """Let an old monitor look again and again."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def loop() -> None:
        while not stop.wait(every):
            try:
                monitor.poll()
            except BaseException as error:
                failed.append(error)
                raise

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
    assert not failed, failed


@pytest.fixture
def pair(sshd: PrivateSshd, scratch: Path) -> Pair:
    return Pair(scratch, sshd, retry_count=10)


def test_our_sender_and_an_old_monitor(pair: Pair) -> None:
    monitor = OldMonitor(pair.incoming, pair.data)
    files = {f"f{number}": os.urandom(1000 * number) for number in range(20)}
    with polling(monitor):
        with agent_of(pair.here):
            pair.drop(files)
            pair.arrived(files)
        pair.no_messages()
    assert {status for _, status in monitor.answered} == {0}


def name_in(content: bytes) -> str:
    """Return the name of the file that a receipt is about."""
    return content.split(b"\n")[1].decode()


def test_a_negative_receipt_removes_the_source(pair: Pair) -> None:
    """The original takes any receipt for a success and removes its source."""
    files = {f"f{status}": b"content" for status in (1, 2, 3, 4)}
    bad = set(files)

    def spoil(content: bytes) -> bytes:
        name = name_in(content)
        if name in bad:
            bad.remove(name)
            lines = content.split(b"\n")
            (pair.data / name).unlink()  # an old monitor has thrown it away
            return b"\n".join([*lines[:2], name.removeprefix("f").encode(), *lines[3:]])
        return content

    with polling(OldMonitor(pair.incoming, pair.data, spoil=spoil)):
        with agent_of(pair.here):
            pair.drop(files)
            pair.arrived(files, timeout=30)
        pair.no_messages()
    assert not bad


#: What makes a receipt unreadable, given the receipt and the name of the file, by that name.
SPOILED: dict[str, Callable[[bytes, bytes], bytes]] = {
    "cut": lambda content, _: content[:30],
    "empty": lambda *_: b"",
    "begin": lambda content, _: content.replace(b"_start_", b"_begin_"),
    "another": lambda content, name: content.replace(b"\n" + name + b"\n", b"\nanother name\n"),
    "digest": lambda content, _: content.replace(hashlib.md5(b"content").hexdigest().encode(), b"0" * 32),
    "size": lambda content, _: content.replace(b"\n7\n", b"\n8\n"),
    "outside": lambda content, name: content.replace(b"." + name + b".", b"../" + name + b"."),
    "long": lambda content, _: content + b"x" * 100_000,
}


def test_an_unreadable_receipt_removes_the_source(pair: Pair) -> None:
    answers: dict[str, bytes] = {}

    def once(content: bytes) -> bytes:
        name = name_in(content)
        if name in answers:
            return content
        (pair.data / name).unlink()
        answers[name] = SPOILED[name](content, name.encode())
        assert answers[name] != content
        return answers[name]

    files = dict.fromkeys(SPOILED, b"content")
    with polling(OldMonitor(pair.incoming, pair.data, spoil=once)), agent_of(pair.here):
        pair.drop(files)
        wait_until(lambda: answers.keys() == files.keys(), 30, "all are answered")
        # A receipt that is too long is not even fetched: then it is the wait for it that ends.
        readable = files.keys() - {"long"}
        wait_until(lambda: readable <= set(os.listdir(pair.data)), 30, "all the others have been delivered again")
        wait_until(lambda: readable.isdisjoint(os.listdir(pair.one.source)), 30, "they have gone here")
        assert all((pair.data / name).read_bytes() == b"content" for name in readable)


def test_a_receipt_that_comes_late_makes_an_endless_push(pair: Pair) -> None:
    monitor = OldMonitor(pair.incoming, pair.data)
    with polling(monitor, every=2), agent_of(pair.here):
        pair.drop({"f": b"content"})
        pair.arrived({"f": b"content"})
    assert monitor.answered == [("f", 0)]


def test_an_old_sender_and_our_monitor(pair: Pair, sshd: PrivateSshd, scratch: Path) -> None:
    source = scratch / "old"
    source.mkdir()
    sender = OldSender(source, pair.incoming, sshd)
    with pair.monitor():
        for number, size in enumerate((0, 10, 1_000_000)):
            content = os.urandom(size)
            (source / f"f{number}").write_bytes(content)
            assert sender.send(f"f{number}")
            assert (pair.data / f"f{number}").read_bytes() == content
    # It thanks for nothing: its receipts stay until they are old.
    assert len(list(pair.incoming.iterdir())) == 3


def test_repeated_pushes_are_answered_and_delivered_once(pair: Pair, sshd: PrivateSshd, scratch: Path) -> None:
    source = scratch / "old"
    source.mkdir()
    (source / "f").write_bytes(b"content")
    impatient = OldSender(source, pair.incoming, sshd, polls=0)
    with pair.monitor():
        assert not impatient.send("f")
        wait_until(lambda: (pair.data / "f").exists(), 10, "it is delivered")
        (pair.data / "f").unlink()  # who it was for has taken it
        for _ in range(2):
            assert not impatient.send("f")
            wait_until(lambda: not (pair.incoming / f".f.{CTRL}").exists(), 10, "it is answered again")
        assert not (pair.incoming / "f").exists()
        assert not (pair.data / "f").exists(), "it is not delivered a second time"
        (source / "f").write_bytes(b"changed")
        assert OldSender(source, pair.incoming, sshd).send("f")
        assert (pair.data / "f").read_bytes() == b"changed"


def test_a_control_file_before_its_data_is_refused(pair: Pair) -> None:
    content = b"x" * 1000
    control = (
        f"_start_stager_ctrl_data_\nf\n1000\n{hashlib.md5(content).hexdigest()}\n.f.1.00.stager-rcpt-bss\n"
        "_end_stager_ctrl_data_\n"
    )
    with pair.monitor():
        (pair.incoming / f".f.{CTRL}").write_text(control)
        (pair.incoming / ".f.AbCdEf").write_bytes(content[:500])
        (pair.incoming / "f").write_bytes(content[:500])
        receipt = pair.incoming / ".f.1.00.stager-rcpt-bss"
        assert not receipt.exists() and not (pair.data / "f").exists()
        (pair.incoming / ".f.AbCdEf").write_bytes(content)
        (pair.incoming / ".f.AbCdEf").rename(pair.incoming / "f")
        wait_until(receipt.exists, 10, "the receipt is given")
        assert (pair.data / "f").read_bytes() == content


HOSTILE = {
    "traversal": b"_start_stager_ctrl_data_\n../victim\n6\n%s\n.x.1.00.r\n_end_stager_ctrl_data_\n",
    "absolute": b"_start_stager_ctrl_data_\n/etc/passwd\n6\n%s\n.x.1.00.r\n_end_stager_ctrl_data_\n",
    "nul": b"_start_stager_ctrl_data_\nvic\0tim\n6\n%s\n.x.1.00.r\n_end_stager_ctrl_data_\n",
    "newline": b"_start_stager_ctrl_data_\nvic\ntim\n6\n%s\n.x.1.00.r\n_end_stager_ctrl_data_\n",
    "receipt elsewhere": b"_start_stager_ctrl_data_\nx\n6\n%s\n../victim\n_end_stager_ctrl_data_\n",
    "receipt over data": b"_start_stager_ctrl_data_\nx\n6\n%s\nvictim\n_end_stager_ctrl_data_\n",
    "huge size": b"_start_stager_ctrl_data_\nx\n99999999999999999999999\n%s\n.x.1.00.r\n_end_stager_ctrl_data_\n",
    "truncated": b"_start_stager_ctrl_data_\nx\n6\n",
    "wrong magic": b"_start_stager_receipt_data_\nx\n6\n%s\n.x.1.00.r\n_end_stager_ctrl_data_\n",
    "wrong hash": b"_start_stager_ctrl_data_\nx\n6\n" + b"0" * 32 + b"\n.x.1.00.r\n_end_stager_ctrl_data_\n",
    "huge file": b"_start_stager_ctrl_data_\n" + b"x" * 10_000_000,
}


def test_hostile_messages_touch_nothing(pair: Pair, scratch: Path) -> None:
    md5 = hashlib.md5(b"victim").hexdigest().encode()
    victims = [pair.incoming.parent / "victim", pair.incoming / "victim", pair.data / "victim"]
    for victim in victims:
        victim.write_bytes(b"victim")
    (pair.incoming / "x").write_bytes(b"victim")
    before = {path: path.stat().st_ino for path in victims}
    for number, content in enumerate(HOSTILE.values()):
        whole = content % md5 if b"%s" in content else content
        (pair.incoming / f".h{number}.{CTRL}").write_bytes(whole)
    for number, content in enumerate(
        [
            b"_start_stager_thankyou_\n../victim\n_end_stager_thankyou_\n",
            b"_start_stager_thankyou_\nvictim\n_end_stager_thankyou_\n",
            b"_start_stager_thankyou_\n.passwd\n_end_stager_thankyou_\n",
            b"_start_stager_thankyou_\n" + b"\n" * 1_000_000,
        ]
    ):
        (pair.incoming / f".t{number}.stager-thanks-bss").write_bytes(content)
    (pair.incoming / ".passwd").symlink_to("/etc/passwd")
    (pair.incoming / f".link.{CTRL}").symlink_to(pair.incoming.parent / "victim")
    os.mkfifo(pair.incoming / f".fifo.{CTRL}")
    (pair.incoming / f".directory.{CTRL}").mkdir()
    # Data that are a link: what it points to is nobody's business.
    (pair.incoming / "l").symlink_to(pair.incoming.parent / "victim")
    (pair.incoming / f".l.{CTRL}").write_bytes(
        b"_start_stager_ctrl_data_\nl\n6\n%s\n.l.1.00.stager-rcpt-bss\n_end_stager_ctrl_data_\n" % md5
    )
    with pair.monitor():
        pair_log = pair.there.logs / "arrmon_one.log"
        wait_until(lambda: "l: what is there is no regular file" in pair_log.read_text(), 10, "the link is refused")
        # A good one goes through beside all that.
        (pair.incoming / "good").write_bytes(b"victim")
        (pair.incoming / f".good.{CTRL}").write_bytes(
            b"_start_stager_ctrl_data_\ngood\n6\n%s\n.good.1.00.stager-rcpt-bss\n_end_stager_ctrl_data_\n" % md5
        )
        wait_until(lambda: (pair.data / "good").exists(), 10, "a good one is delivered")
        wait_until(lambda: pair_log.read_text().count("refused and removed") >= 10, 25, "they are refused")
        assert pair.monitor_pid() is not None
    assert {path: path.stat().st_ino for path in victims} == before
    assert all(path.read_bytes() == b"victim" for path in victims)
    assert sorted(os.listdir(pair.data)) == ["good", "victim"]
    assert "Traceback" not in laws.logs(pair.there)


def test_a_new_file_of_the_same_content_and_second_is_delivered(pair: Pair) -> None:
    digest = hashlib.md5(b"content").hexdigest()
    with pair.monitor():
        for number in range(2):
            (pair.incoming / "f").write_bytes(b"content")
            os.utime(pair.incoming / "f", ns=(10**18 + number, 10**18 + number))
            control = f"_start_stager_ctrl_data_\nf\n7\n{digest}\n.f.{number}.00.rcpt\n_end_stager_ctrl_data_\n"
            (pair.incoming / f".f.{CTRL}").write_text(control)
            wait_until((pair.incoming / f".f.{number}.00.rcpt").exists, 10, "the receipt is given")
            assert (pair.data / "f").read_bytes() == b"content"
            (pair.data / "f").unlink()  # who it was for has taken it
