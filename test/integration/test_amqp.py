"""What a real agent tells by a real RabbitMQ: everything, in order, whatever is away or killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents import agent_of, kill, log_of, none_left, words_of
from brokers import Subscriber, password_file
from integration.test_alerts import AFTER, GATHER, alerts_pid, drop, quarantine_one
from mistamover.report import alerting
from mistamover.testing.rabbitmq import PrivateRabbit
from mistamover.testing.sshd import PrivateSshd
from receivers import Hook, hook_server
from support import Site, wait_until

pytestmark = pytest.mark.timeout(180)


def keys(rabbit: PrivateRabbit, directory: Path, **more: object) -> dict[str, object]:
    """Return the keys of [notify] that name the broker; the exchange is the test's own."""
    return {
        "amqp_url": rabbit.url,
        "amqp_password_file": password_file(rabbit, directory),
        "amqp_exchange": directory.parent.name,
        **more,
    }


def site_with(scratch: Path, sshd: PrivateSshd | None, notify: dict[str, object]) -> Site:
    email = {"after": AFTER, "gather_time": GATHER}
    site = Site(scratch, sshd, notify=notify, email=email, data_stream={"symlinks": "quarantine"})
    if sshd is not None:
        site.add("one", data_stream={"settle_time": 0.2, "rescan_interval": 2}, outgoing={"retry_count": 1})
    return site


def arrive(box: Subscriber, names: list[str], timeout: float = 40) -> None:
    wait_until(lambda: set(box.names()) >= set(names), timeout, "all were published", every=0.1)


def check(box: Subscriber, names: list[str]) -> None:
    """Assert that everything came, in order, and what came again had the id that it had before."""
    delivered = [each for each in box.once() if each["event"] == "delivered"]
    assert sorted(each["name"] for each in delivered) == sorted(names)
    numbers = [int(each["id"].split("-")[1]) for each in delivered]
    assert numbers == sorted(numbers)


def test_all_three_events_arrive(scratch: Path, sshd: PrivateSshd, rabbit: PrivateRabbit) -> None:
    site = site_with(scratch, sshd, keys(rabbit, scratch))
    box = Subscriber(rabbit, scratch.parent.name).bind()
    with agent_of(site):
        (name,) = drop(site, "one", 1)
        arrive(box, [name])
        moved = quarantine_one(site)
        wait_until(lambda: len(box.take()) >= 3, 30, "the quarantine and the incident were published", every=0.1)
        moved.unlink()
        wait_until(lambda: len(box.take()) >= 4, 30, "the end of the incident was published", every=0.1)
    delivered, *others = box.events
    assert {key: delivered[key] for key in ("event", "stream", "name", "size", "kind")} == {
        "event": "delivered",
        "stream": "one",
        "name": name,
        "size": len(name),
        "kind": "file",
    }
    assert delivered["digest"]
    assert [(each["event"], each.get("state")) for each in others] == [
        ("quarantined", None),
        ("incident", "opened"),
        ("incident", "over"),
    ]
    assert [message.delivery_info["routing_key"] for message in box.messages] == [
        "mistamover.one.delivered",
        "mistamover.one.quarantined",
        "mistamover.one.incident",
        "mistamover.one.incident",
    ]
    assert len(box.once()) == 4
    none_left(site)


def test_nothing_is_missing_while_the_broker_or_the_webhook_is_away(
    scratch: Path, sshd: PrivateSshd, rabbit: PrivateRabbit
) -> None:
    hook = Hook()
    with hook_server(hook) as url:
        site = site_with(scratch, sshd, keys(rabbit, scratch, url=f"http://127.0.0.1:{url}/", events="delivered"))
        box = Subscriber(rabbit, scratch.parent.name).bind()
        with agent_of(site):
            names = drop(site, "one", *range(250))
            wait_until(lambda: box.take(), 30, "the first message")
            rabbit.stop()
            names += drop(site, "one", *range(300, 350))
            # The webhook does not wait for the broker ...
            wait_until(lambda: set(hook.names()) >= set(names), 30, "all were posted")
            refused = f"amqp://127.0.0.1:{rabbit.port}/%2F: Connection refused"
            wait_until(lambda: _waits(site) == refused, 20, "it is known")
            said = site.ask("status")
            assert f"alerts: notifications by AMQP wait: {refused}" in said.stdout.splitlines()
            assert said.returncode == 1
            rabbit.start()
            arrive(box, names)
            # ... and the broker not for the webhook.
            hook.status = 503
            names += drop(site, "one", *range(400, 420))
            arrive(box, names)
            assert not set(names) <= set(hook.names())
            hook.status = 200
            wait_until(lambda: set(hook.names()) >= set(names), 60, "all were posted")
            wait_until(lambda: not _waits(site), 10, "nothing waits")
            wait_until(lambda: "alerts: " not in site.ask("status").stdout, 10, "no alert waits either")
    check(box, names)
    none_left(site)


def _waits(site: Site) -> str:
    """Return why notifications by AMQP wait, as `status` will say; empty if they do not."""
    report = alerting.read(site.state)
    return report.amqp_trouble if report else ""


def test_a_kill_between_a_message_and_the_position_behind_it_loses_nothing(
    scratch: Path, sshd: PrivateSshd, rabbit: PrivateRabbit
) -> None:
    site = site_with(scratch, sshd, keys(rabbit, scratch, events="delivered"))
    box = Subscriber(rabbit, scratch.parent.name).bind()
    with agent_of(site):
        names = drop(site, "one", 1)
        arrive(box, names)
        position = site.state / "alerts/positions-amqp/one.json"
        wait_until(lambda: '"delivered": 1,' in position.read_text(), 10, "the position was written")
        # Nothing can take the place of a directory.
        kept = position.rename(scratch / "kept.json")
        position.mkdir()
        names += drop(site, "one", *range(10, 30))
        arrive(box, names)
        wait_until(lambda: "amqp: not handed over" in log_of(site, "alerts"), 10, "the position cannot be written")
        kill(alerts_pid(site))
        first = len(box.take())
        position.rmdir()
        kept.rename(position)
        names += drop(site, "one", *range(40, 50))
        arrive(box, names)
    assert len(box.take()) >= first + 30
    check(box, names)
    none_left(site)


def test_kills_at_any_moment_lose_nothing(scratch: Path, sshd: PrivateSshd, rabbit: PrivateRabbit) -> None:
    site = site_with(scratch, sshd, keys(rabbit, scratch, events="delivered"))
    box = Subscriber(rabbit, scratch.parent.name).bind()
    names: list[str] = []
    with agent_of(site):
        for first in (0, 1000, 2000):
            before = len(box.take())
            names += drop(site, "one", *range(first, first + 250))
            wait_until(lambda seen=before: len(box.take()) > seen, 30, "some were published", every=0.01)
            kill(alerts_pid(site))
        arrive(box, names)
    check(box, names)
    none_left(site)


def test_a_wrong_password_is_told_and_shown_nowhere(scratch: Path, sshd: PrivateSshd, rabbit: PrivateRabbit) -> None:
    site = site_with(scratch, sshd, keys(rabbit, scratch))
    box = Subscriber(rabbit, scratch.parent.name).bind()
    password_file(rabbit, scratch, "not-s3cret")
    with agent_of(site):
        names = drop(site, "one", 1)
        wait_until(lambda: _waits(site), 20, "it is known")
        said = site.ask("status").stdout
        assert "ACCESS_REFUSED - Login was refused" in said
        shown = [said, log_of(site, "alerts"), log_of(site, "mistamover_ctl"), site.ask("status", "--json").stdout]
        shown += [word for words in words_of(site) for word in words]
        # It is read anew each time: no reload is needed.
        password_file(rabbit, scratch)
        arrive(box, names)
        shown.append(log_of(site, "alerts"))
    for text in shown:
        assert "not-s3cret" not in text
        assert rabbit.password not in text
    none_left(site)


def test_a_trial_publishes_one_message(scratch: Path, rabbit: PrivateRabbit) -> None:
    site = site_with(scratch, None, keys(rabbit, scratch))
    words = ["alert", "test", str(site.global_ini)]
    alone = site.run(*words)
    assert (alone.returncode, alone.stderr) == (1, "")
    assert f"FAILED: no queue of exchange {scratch.parent.name} at amqp://127.0.0.1:" in alone.stdout
    box = Subscriber(rabbit, scratch.parent.name).bind()
    done = site.run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "handed over" in done.stdout
    (event,) = box.take()
    assert event["event"] == "test"
    assert box.messages[0].delivery_info["routing_key"] == "mistamover.-.test"
    password_file(rabbit, scratch, "wrong")
    refused = site.run(*words)
    assert refused.returncode == 1
    assert "ACCESS_REFUSED" in refused.stdout
