"""The contract of transports, kept by `local`; and what only this one can be asked."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from contract import Contract, End, Watcher, confirmed, deliver, fault
from laws import digest
from mistamover.errors import LinkError, TargetError
from mistamover.model import FaultClass
from mistamover.transport.by_file import ByFile
from mistamover.transport.local import LocalFiles
from small_disks import mounted


def local(place: Path, files: type[LocalFiles] = LocalFiles, **changes: object) -> End:
    """Return the two ends of a transport to a directory, by way of these files."""
    return End(
        place,
        lambda end, target, keep: ByFile(
            lambda: files(target.directory),
            source=os.fsencode(end.source),
            target=target,
            run_dir=end.run,
            owner="me",
            keep_extra=keep,
        ),
        **changes,
    )


class TestLocal(Contract):
    @pytest.fixture
    def end(self, scratch: Path) -> Iterator[End]:
        made = local(scratch)
        yield made
        made.close()


def test_a_target_that_is_full_is_not_the_fault_of_a_file(scratch: Path) -> None:
    (scratch / "target").mkdir()
    with mounted(scratch / "target", mib=8) as disk:
        made = local(scratch)
        try:
            transport = made.transport()
            transport.open()
            disk.leave(2)
            units = [made.put("first", os.urandom(1 << 20)), made.put("second", os.urandom(4 << 20)), made.put("third")]
            verdicts = deliver(transport, units)
            confirmed({b"first": verdicts.pop(b"first")})
            assert {fault(verdict) for verdict in verdicts.values()} == {FaultClass.TARGET}
            with pytest.raises(TargetError, match="No space"):
                deliver(transport, units[1:2])
            disk.leave(6)
            confirmed(deliver(transport, units[1:]))
        finally:
            made.close()
        assert made.leftovers() == []


def test_a_directory_that_is_missing_is_not_made(scratch: Path) -> None:
    """Where nothing is mounted, it would be the wrong one."""
    made = local(scratch)
    made.target.rmdir()
    transport = made.transport()
    for act in (transport.open, transport.suspended, transport.probe):
        with pytest.raises(TargetError, match="mount"):
            act()
    assert not made.target.exists()


class AnswerLost(LocalFiles):
    """A directory that is renamed in, and from which the answer to that does not come back."""

    lost: ClassVar[list[bytes]] = []

    def rename(self, old: bytes, new: bytes) -> None:
        """Rename, and fail the first time."""
        super().rename(old, new)
        if not self.lost:
            self.lost.append(new)
            raise LinkError("the connection is lost")


def test_a_probe_whose_answer_is_lost_leaves_nothing_that_stays(scratch: Path) -> None:
    AnswerLost.lost.clear()
    made = local(scratch, AnswerLost)
    transport = made.transport()
    with pytest.raises(LinkError):
        transport.probe()
    assert AnswerLost.lost == list(made.leftovers())
    confirmed(deliver(transport, [made.put("file")]))
    assert made.leftovers() == []
    made.close()


def test_a_directory_that_was_replaced_is_noticed(scratch: Path) -> None:
    made = local(scratch)
    transport = made.transport()
    assert not transport.suspended()
    made.target.rename(scratch / "old")
    made.target.mkdir()
    with pytest.raises(TargetError, match="replaced"):
        transport.suspended()
    confirmed(deliver(transport, [made.put("file")]))
    assert set(made.files()) == {b"file"}
    made.close()
    assert os.listdir(scratch / "old") == []


def test_nothing_leaves_the_target_by_a_link(scratch: Path) -> None:
    outside = scratch / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    made = local(scratch)
    (made.target / "way-out").symlink_to(outside)
    (made.target / "file").symlink_to(outside / "kept")
    transport = made.transport()
    verdicts = deliver(transport, [made.put("way-out/new"), made.put("file")])
    assert fault(verdicts[b"way-out/new"]) is FaultClass.REFUSED
    confirmed({b"file": verdicts[b"file"]})
    assert transport.remove([b"way-out/kept", b"file"]) == [b"way-out/kept", b"file"]
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"kept": b"kept"}
    made.close()


def test_half_a_large_file_is_gone_on_with(scratch: Path) -> None:
    made = local(scratch)
    unit = made.sparse("large", 64 << 20)
    guard = Watcher(progressed=lambda size: guard.give_up() if size >= 24 << 20 else None)
    first = made.transport()
    assert fault(deliver(first, [unit], guard)[b"large"]) is FaultClass.ABANDONED
    first.close(finished=False)
    [half] = [name for name, entry in made.tree().items() if entry.kind == "file"]
    size = (made.target / os.fsdecode(half)).stat().st_size
    assert 0 < size < 64 << 20
    seen: list[int] = []
    confirmed(deliver(made.transport(), [unit], Watcher(progressed=seen.append)))
    assert min(seen) >= min(size, 24 << 20)
    made.same(made.public(), made.expected())
    # The same name with another content begins anew.
    guard = Watcher(progressed=lambda size: guard.give_up() if size >= 24 << 20 else None)
    assert fault(deliver(made.transport(), [made.sparse("large", 64 << 20)], guard)[b"large"]) is FaultClass.ABANDONED
    confirmed(deliver(made.transport(), [made.sparse("large", 32 << 20)]))
    made.same(made.public(), made.expected())
    made.close()
    assert made.leftovers() == []


def test_what_was_put_aside_is_put_back_after_a_kill(scratch: Path) -> None:
    """Killed between the two renames that replace a directory unit, or while what only the old one held moves over."""
    made = local(scratch)
    for name in ("alone/a", "both/b", "both/sub/c"):
        made.plant(b".mistamover/me/o-1/" + name.encode(), b"old")
    made.plant(b"both/b", b"new")
    made.transport(keep_extra=True).open()
    assert made.files() == {
        name: digest(content) for name, content in ((b"alone/a", b"old"), (b"both/b", b"new"), (b"both/sub/c", b"old"))
    }
    made.close()
    assert made.leftovers() == []


def test_nobody_becomes_somebody_else_by_a_copy(scratch: Path) -> None:
    made = local(scratch)
    confirmed(deliver(made.transport(), [made.put("program", mode=0o4755)]))
    assert stat.S_IMODE((made.target / "program").stat().st_mode) == 0o755
    made.close()


def test_a_group_that_directories_hand_down(scratch: Path) -> None:
    made = local(scratch)
    made.target.chmod(0o2775)
    confirmed(deliver(made.transport(), [made.put("sub/file")]))
    assert (made.target / "sub").stat().st_mode & stat.S_ISGID
    made.close()
