"""Messages that are collected for one mail, and following log files."""

from __future__ import annotations

from pathlib import Path

from mistamover.alerts import tail
from mistamover.alerts.digest import Collection, Line, collect, due


def line(message: str, owner: str = "one") -> Line:
    return Line(component="dtc_one", owner=owner, level="ERROR", message=message)


def tell(before: Collection, now: float, concerned: dict[str, float] | None = None) -> tuple[Collection, list[str]]:
    after, news = due(before, concerned or {}, now, collect_time=100, remind_interval=1000)
    return after, [f"{message.count} {message.line.message}" for message in news.messages]


def test_equal_messages_are_one_with_a_number_and_wait_for_their_time() -> None:
    collection = collect(Collection(), [line("pause of 3 s"), line("other"), line("pause of 5 s")], 0)
    assert tell(collection, 99) == (collection, [])
    after, told = tell(collection, 100)
    assert told == ["2 pause of 5 s", "1 other"]
    assert after.messages == ()


def test_what_belongs_to_an_incident_is_not_told_twice() -> None:
    collection = collect(Collection(), [line("failed"), line("mine", owner="two")], 50)
    assert tell(collection, 150, {"one": 45.0})[1] == ["1 mine"]
    assert tell(collection, 150, {"one": 20.0})[1] == ["1 failed", "1 mine"]


def test_what_was_told_is_told_again_only_after_the_interval_of_reminders() -> None:
    after, told = tell(collect(Collection(), [line("failed")], 0), 100)
    assert told == ["1 failed"]
    after, told = tell(collect(after, [line("failed")], 200), 300)
    assert told == []
    assert after.messages == ()
    assert tell(collect(after, [line("failed")], 1200), 1300)[1] == ["1 failed"]


def test_there_is_a_bound() -> None:
    words = [f"message {chr(0x4E00 + number)}" for number in range(150)]
    collection = collect(Collection(), map(line, words), 0)
    assert (len(collection.messages), collection.missed) == (100, 50)
    _, news = due(collection, {}, 200, collect_time=100, remind_interval=0)
    assert news.missed == 50


def entry(level: str, message: str) -> str:
    return f"[2026-11-22 10:15:00] {level} (pid=7) {message}\n"


def test_a_log_is_followed_from_its_end_and_through_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "dtc_one.log"
    log.write_text(entry("ERROR", "old"))
    positions = tail.at_the_end([tmp_path])
    with log.open("a") as file:
        file.write(entry("ERROR", "new") + "Traceback\n" + entry("WARNING", "less") + entry("CRITICAL", "half")[:-1])
    positions, lines = tail.follow([tmp_path], positions, "ERROR")
    assert [(each.owner, each.level, each.message) for each in lines] == [("one", "ERROR", "new")]
    with log.open("a") as file:
        file.write("\n")
    positions, lines = tail.follow([tmp_path], positions, "ERROR")
    assert [each.message for each in lines] == ["half"]
    log.rename(tmp_path / "dtc_one.log.1")
    log.write_text(entry("ERROR", "after"))
    assert [each.message for each in tail.follow([tmp_path], positions, "ERROR")[1]] == ["after"]


def test_a_message_of_the_master_belongs_to_whom_it_speaks_of(tmp_path: Path) -> None:
    (tmp_path / "mistamover_ctl.log").write_text(
        entry("ERROR", "stream a.b-c: its process ended")
        + entry("ERROR", "/conf/x.ini:3: bad; the last good configuration stays in force")
        + entry("ERROR", "whatever")
    )
    (tmp_path / "alerts.log").write_text(entry("ERROR", "our own"))
    lines = tail.follow([tmp_path, tmp_path / "none", tmp_path], {}, "ERROR")[1]
    assert [each.owner for each in lines] == ["a.b-c", tail.CONFIGURATION, ""]
