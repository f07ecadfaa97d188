"""The queue on disk, and what is remembered beside it."""

from __future__ import annotations

from pathlib import Path

from mistamover.alerts import state
from mistamover.alerts.courier import pause
from mistamover.alerts.digest import Collection, Line, Message
from mistamover.alerts.incidents import Condition, Incident, Kind
from mistamover.alerts.queue import Queue
from mistamover.alerts.state import Outgoing, State


def waiting(queue: Queue) -> list[bytes]:
    return [path.read_bytes() for path in queue.waiting()]


def test_messages_wait_in_order_and_each_once(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue")
    for number in range(5):
        queue.put(f"{9 - number}a", b"%d" % number)
    queue.put("9a", b"again")
    assert waiting(queue) == [b"0", b"1", b"2", b"3", b"4"]
    queue.remove(queue.waiting()[0])
    assert waiting(Queue(tmp_path / "queue")) == [b"1", b"2", b"3", b"4"]
    assert queue.dropped == 0


def test_a_clock_that_was_set_back_changes_no_order(tmp_path: Path) -> None:
    (tmp_path / f"{2**62:020d}-aa.json").write_bytes(b"first")
    queue = Queue(tmp_path)
    queue.put("bb", b"second")
    assert waiting(queue) == [b"first", b"second"]


def test_the_oldest_is_dropped_last_of_all_and_counted(tmp_path: Path) -> None:
    queue = Queue(tmp_path, most=3)
    for number in range(5):
        queue.put(f"a{number}", b"%d" % number)
    assert waiting(queue) == [b"2", b"3", b"4"]
    assert Queue(tmp_path).dropped == 2
    queue.clear_dropped(1)
    assert queue.dropped == 1


def test_everything_is_remembered(tmp_path: Path) -> None:
    condition = Condition(
        kind=Kind.QUARANTINED,
        subject="one",
        words="set aside",
        streams=("one",),
        files=("a", "b"),
        count=2,
        example="/x/\udcff",
    )
    line = Line(component="links", owner="", level="ERROR", message="m")
    whole = State(
        incidents=(Incident(condition=condition, began=1.25, told=2.5, reminders=3),),
        collection=Collection(messages=(Message(line=line, first=3.0, count=2),), missed=1, told={"x": 4.0}),
        concerned={"one": 5.0},
        positions={"/log/a.log": (1, 2)},
        outgoing=(Outgoing(queue="mail", name="ab", content="text"),),
    )
    state.write(tmp_path, whole, durable=False)
    assert state.read(tmp_path) == whole
    (tmp_path / "state.json").write_text("{}")
    assert state.read(tmp_path) is None


def test_pauses_grow_up_to_a_limit() -> None:
    assert [pause(failures, 10.0) for failures in (1, 2, 3, 4, 5, 5000)] == [1, 2, 4, 8, 10, 10]
