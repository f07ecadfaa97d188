"""Messages to a real RabbitMQ, one after another and in trouble."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from brokers import Subscriber, client_of, password_file
from mistamover.alerts.amqp import Amqp
from mistamover.config.settings import AmqpSettings
from mistamover.errors import AlertError, AlertRefused, SecretError
from mistamover.testing.rabbitmq import PrivateRabbit
from receivers import silent_server
from support import free_port, wait_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def settings(rabbit: PrivateRabbit, tmp_path: Path) -> AmqpSettings:
    return replace(
        somewhere(tmp_path.name), port=rabbit.port, user=rabbit.user, password_file=password_file(rabbit, tmp_path)
    )


def somewhere(exchange: str) -> AmqpSettings:
    return AmqpSettings(
        host="127.0.0.1",
        port=free_port(),
        tls=False,
        vhost="/",
        user="guest",
        password_file=None,
        ca_file=None,
        exchange=exchange,
        routing_key="mistamover.{stream}.{event}",
        mandatory=True,
        events=(),
    )


def event(number: int, kind: str = "delivered", **more: Any) -> dict[str, Any]:
    return {"id": f"id-{number}", "event": kind, "stream": "a.b", "name": f"f{number}", **more}


def processes_of(rabbit: PrivateRabbit) -> list[str]:
    """Return the names of all processes that were started with the broker's home."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOME") == str(rabbit.directory / "home"):
                found.append(process.name())
    return found


def close(poster: Amqp) -> None:
    poster._broker.close()


def test_messages_arrive_in_order_with_all_they_need(rabbit: PrivateRabbit, settings: AmqpSettings) -> None:
    box, poster = Subscriber(rabbit, settings.exchange).bind(), Amqp(settings)
    poster.post([event(number) for number in range(150)], 12.7)
    poster.post([event(200, "quarantined")], 13.0)
    poster.post([{"id": "x", "event": "incident", "streams": ["a", "b"]}, {"id": "y", "event": "test"}], 14.0)
    poster.rest()
    assert [each["id"] for each in box.take()] == [*(f"id-{n}" for n in range(150)), "id-200", "x", "y"]
    first = box.messages[0]
    assert first.delivery_info["routing_key"] == "mistamover.a_b.delivered"
    assert (first.content_type, first.properties["delivery_mode"]) == ("application/json", 2)
    assert (first.properties["message_id"], first.properties["type"]) == ("id-0", "delivered")
    assert [each.delivery_info["routing_key"] for each in box.messages[150:]] == [
        "mistamover.a_b.quarantined",
        "mistamover.-.incident",
        "mistamover.-.test",
    ]
    close(poster)


def test_what_no_queue_takes_is_refused_and_nothing_behind_it_comes_first(
    rabbit: PrivateRabbit, settings: AmqpSettings
) -> None:
    box = Subscriber(rabbit, settings.exchange, "*.*.delivered").bind()
    poster = Amqp(settings)
    events = [event(1), event(2), event(3, "quarantined"), event(4, "quarantined"), event(5)]
    for _ in range(3):
        with pytest.raises(AlertRefused, match=r"takes mistamover\.a_b\.quarantined: bind one"):
            poster.post(events, 1.0)
    # What was taken already is not published again.
    assert box.names() == ["f1", "f2"]
    other = Subscriber(rabbit, settings.exchange, "*.*.quarantined").bind()
    poster.post(events, 1.0)
    assert box.names() == ["f1", "f2", "f5"]
    assert other.names("quarantined") == ["f3", "f4"]
    # The memory of it is gone: the next call is another one.
    poster.post([event(1)], 1.0)
    assert box.names() == ["f1", "f2", "f5", "f1"]
    lax = Amqp(replace(settings, mandatory=False))
    lax.post([event(9, "incident")], 1.0)
    close(lax)
    close(poster)


def test_an_exchange_of_another_type_is_told(rabbit: PrivateRabbit, settings: AmqpSettings) -> None:
    with client_of(rabbit) as client:
        client.default_channel.exchange_declare(settings.exchange, "fanout", durable=True, auto_delete=False)
    with pytest.raises(AlertError, match=r"is no durable one of type topic \(.*current is 'fanout'\): remove it"):
        Amqp(settings).post([event(1)], 1.0)


def test_who_may_not_make_an_exchange_uses_one_that_is_there(
    rabbit: PrivateRabbit, settings: AmqpSettings, tmp_path: Path
) -> None:
    rabbit.control("add_user", "writer", "just-a-password")
    rabbit.control("set_permissions", "writer", "", ".*", "")
    writer = replace(settings, user="writer", password_file=password_file(rabbit, tmp_path, "just-a-password"))
    with pytest.raises(AlertError, match=f"no exchange '{settings.exchange}'"):
        Amqp(writer).post([event(1)], 1.0)
    box, poster = Subscriber(rabbit, settings.exchange).bind(), Amqp(writer)
    poster.post([event(1)], 1.0)
    assert box.names() == ["f1"]
    close(poster)
    rabbit.control("set_permissions", "writer", "", "", "")
    with pytest.raises(AlertError, match=r"ACCESS_REFUSED - .* to exchange"):
        Amqp(writer).post([event(2)], 1.0)


def test_a_login_that_is_refused_is_told_without_the_password(
    rabbit: PrivateRabbit, settings: AmqpSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert settings.password_file is not None
    settings.password_file.write_text("wr/ng-password\n")
    with pytest.raises(AlertError, match="ACCESS_REFUSED - Login was refused") as caught:
        Amqp(settings).post([event(1)], 1.0)
    assert caught.value.__cause__ is None
    for secret in ("wr/ng", "wr%2Fng"):
        assert secret not in f"{caught.value!r} {caplog.text}"
    settings.password_file.write_text("\n")
    with pytest.raises(SecretError, match="must be the password"):
        Amqp(settings).post([event(1)], 1.0)
    settings.password_file.chmod(0o644)
    with pytest.raises(SecretError, match="read by others"):
        Amqp(settings).post([event(1)], 1.0)
    with pytest.raises(AlertError, match="vhost nowhere not found"):
        Amqp(replace(settings, password_file=password_file(rabbit, tmp_path), vhost="nowhere")).post([event(1)], 1.0)


def test_a_broker_that_is_away_or_hangs_is_given_up(rabbit: PrivateRabbit, settings: AmqpSettings) -> None:
    with pytest.raises(AlertError, match=r"amqp://127\.0\.0\.1:\d+/%2F: Connection refused"):
        Amqp(replace(settings, port=free_port())).post([event(1)], 1.0)
    with silent_server() as port, pytest.raises(AlertError, match="no answer in time"):
        Amqp(replace(settings, port=port), timeout=0.3).post([event(1)], 1.0)
    box, poster = Subscriber(rabbit, settings.exchange).bind(), Amqp(settings, timeout=2)
    poster.post([event(1)], 1.0)
    rabbit.pause()
    try:
        with pytest.raises(AlertError, match="no answer in time"):
            poster.post([event(2), event(3)], 1.0)
    finally:
        rabbit.resume()
    poster.post([event(2), event(3)], 1.0)
    box.take()
    assert [each["name"] for each in box.once()] == ["f1", "f2", "f3"]
    close(poster)


def test_a_broker_that_is_short_of_memory_is_told(rabbit: PrivateRabbit, settings: AmqpSettings) -> None:
    box, poster = Subscriber(rabbit, settings.exchange).bind(), Amqp(settings, timeout=2)
    rabbit.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        with pytest.raises(AlertError, match="short of memory or disk"):
            poster.post([event(1)], 1.0)
    finally:
        rabbit.control("set_vm_memory_high_watermark", "0.4")
    poster.post([event(1)], 1.0)
    assert set(box.names()) == {"f1"}
    close(poster)


def test_the_way_is_encrypted_and_the_certificate_must_be_good(rabbit: PrivateRabbit, settings: AmqpSettings) -> None:
    box = Subscriber(rabbit, settings.exchange).bind()
    tls = replace(settings, tls=True, port=rabbit.tls_port)
    with pytest.raises(AlertError, match=r"amqps://127\.0\.0\.1:\d+/%2F: .*certificate verify failed"):
        Amqp(tls).post([event(1)], 1.0)
    poster = Amqp(replace(tls, ca_file=rabbit.certificate))
    poster.post([event(1)], 1.0)
    poster.rest()
    poster.post([event(2)], 1.0)
    assert box.names() == ["f1", "f2"]
    close(poster)
    with pytest.raises(AlertError, match="certificate"):
        Amqp(replace(tls, ca_file=rabbit.certificate, host="localhost")).post([event(1)], 1.0)


def test_an_idle_connection_lives_as_long_as_it_is_looked_after(
    rabbit: PrivateRabbit, settings: AmqpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mistamover.alerts.broker._HEARTBEAT", 1)
    box, poster = Subscriber(rabbit, settings.exchange).bind(), Amqp(settings)
    poster.post([event(1)], 1.0)
    kept, pause = poster._broker._connection, threading.Event()
    for _ in range(12):
        pause.wait(0.5)
        poster.rest()
    assert poster._broker._connection is kept
    poster.post([event(2)], 1.0)
    assert poster._broker._connection is kept

    def given_up() -> bool:
        poster._broker._connection.blocking_read(10)
        return False

    # Nobody looks after it: the broker ends it.
    with pytest.raises(OSError, match=r"closed|reset"):
        wait_until(given_up, 15, "the broker has closed it")
    poster.rest()
    poster.post([event(3)], 1.0)
    assert box.names() == ["f1", "f2", "f3"]
    close(poster)


def test_a_connection_that_the_broker_has_closed_is_opened_anew(rabbit: PrivateRabbit, settings: AmqpSettings) -> None:
    box, poster = Subscriber(rabbit, settings.exchange).bind(), Amqp(settings)
    poster.post([event(1)], 1.0)
    rabbit.stop()
    assert processes_of(rabbit) == []
    poster.rest()
    rabbit.start()
    assert processes_of(rabbit) != []

    def posted() -> bool:
        # A broker that has just started may not know its bindings yet.
        with contextlib.suppress(AlertRefused):
            poster.post([event(2)], 1.0)
            return True
        return False

    wait_until(posted, 20, "it is posted")
    assert box.names() == ["f1", "f2"]
    close(poster)
