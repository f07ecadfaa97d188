"""Whoever asked for it is told that a job has ended: by a real HTTP server, by a real RabbitMQ, at least once."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Queue

from brokers import client_of, password_file
from mistamover.config.load import load
from mistamover.config.settings import Settings
from mistamover.jobs.model import Callback, Job, JobState, Location, NewItem, NewJob, Op, Source
from mistamover.jobs.store.store import Store
from mistamover.jobs.work.callbacks import Teller
from mistamover.testing.rabbitmq import PrivateRabbit
from receivers import Hook, certificate, hook_server
from support import Site, free_port


class Clock:
    """The store's time, which a test sets."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Telling:
    """A store, settings, and who tells of its jobs."""

    def __init__(self, directory: Path, **sections: dict[str, object]) -> None:
        self.site = Site(directory, **{"front": {"allow_private_addresses": True}, **sections})
        self.settings: Settings = load(self.site.global_ini, {})
        self.clock = Clock()
        assert self.settings.jobs is not None
        self.settings.jobs.directory.mkdir(mode=0o700, parents=True)
        self.store = Store(self.settings.jobs.engine.database_url, self.clock)
        self.store.prepare()
        self.teller = Teller(self.store, self.settings, timeout=10, clock=self.clock)

    def ended(self, callback: Callback, state: JobState = JobState.DONE, origin: str = "rest", **more: Any) -> Job:
        """Return a job that has just ended."""
        item = NewItem(
            source=Source(location=Location(endpoint="a", path="x")), target=Location(endpoint="b", path="y")
        )
        new = NewJob(op=Op.COPY, items=[item], callback=callback, origin=origin, label="mine")
        job, _ = self.store.jobs.submit(new)
        claim = self.store.claims.next("w", 100)
        assert claim is not None
        assert self.store.claims.finish(claim, state, objects=(), **more)
        found = self.store.jobs.get(job.id)
        assert found is not None
        return found


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[Telling]:
    made = Telling(tmp_path)
    yield made
    made.store.close()


def test_a_program_is_told_once_it_takes_it(telling: Telling) -> None:
    hook = Hook()
    with hook_server(hook) as port:
        url = f"http://127.0.0.1:{port}/jobs?x=1"
        job = telling.ended(Callback(url=url, extra={"ticket": "7"}), result={"files": ["y"]})
        hook.status = 503
        telling.teller.look()
        telling.teller.look()
        assert len(hook.raw) == 1
        assert telling.store.callbacks.pending() == 1
        hook.status = 204
        # Within the time for which it is left alone nobody is told, and afterwards once.
        telling.clock.now += 5000
        telling.teller.look()
        telling.teller.look()
    assert telling.store.callbacks.pending() == 0
    (message,) = hook.messages
    assert message["event"] == "job"
    assert message["extra"] == {"ticket": "7"}
    told = message["job"]
    assert (told["id"], told["op"], told["state"], told["label"]) == (job.id, "copy", "done", "mine")
    assert told["result"] == {"files": ["y"]}
    (first, _), (second, headers) = hook.raw
    assert json.loads(first)["id"] == json.loads(second)["id"] == headers["X-MiStaMover-Id"]
    assert "X-MiStaMover-Signature" not in headers


def test_what_is_posted_is_signed_with_the_secret_of_notify(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text("hush\n")
    telling = Telling(tmp_path / "site", notify={"secret_file": secret})
    hook = Hook()
    with telling.store, hook_server(hook) as port:
        telling.ended(Callback(url=f"http://127.0.0.1:{port}/"))
        telling.teller.look()
    ((body, headers),) = hook.raw
    wanted = hmac.new(b"hush", body, hashlib.sha256).hexdigest()
    assert headers["X-MiStaMover-Signature"] == f"sha256={wanted}"


def test_a_job_that_is_tried_again_is_told_again_with_another_id(telling: Telling) -> None:
    hook = Hook()
    with hook_server(hook) as port:
        job = telling.ended(Callback(url=f"http://127.0.0.1:{port}/"), JobState.FAILED, reason="no room")
        telling.teller.look()
        assert telling.store.jobs.retry(job.id) is not None
        telling.clock.now += 10
        claim = telling.store.claims.next("w", 100)
        assert claim is not None
        telling.store.claims.finish(claim, JobState.DONE)
        telling.teller.look()
    failed, done = hook.messages
    assert (failed["job"]["state"], failed["job"]["reason"], done["job"]["state"]) == ("failed", "no room", "done")
    assert failed["id"] != done["id"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:{port}/", "private network"),
        ("http://localhost:{port}/", "private network"),
        ("http://[::ffff:127.0.0.1]:{port}/", "private network"),
        ("http://0.0.0.0:{port}/", "private network"),
        ("file:///etc/passwd", "not a URL"),
        ("http://127.0.0.1:99999/", "not a URL"),
    ],
)
def test_nobody_is_told_where_the_client_could_not_go_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str, words: str
) -> None:
    telling = Telling(tmp_path, front={"allow_private_addresses": False})
    hook = Hook()
    with telling.store, hook_server(hook) as port:
        telling.ended(Callback(url=url.format(port=port)))
        telling.teller.look()
        assert telling.store.callbacks.pending() == 0
    assert hook.raw == []
    assert words in caplog.text


def test_redirects_are_not_followed(telling: Telling) -> None:
    hook, other = Hook(), Hook()
    with hook_server(hook) as port, hook_server(other) as elsewhere:
        hook.status, hook.headers = 307, {"Location": f"http://127.0.0.1:{elsewhere}/"}
        telling.ended(Callback(url=f"http://127.0.0.1:{port}/"))
        telling.teller.look()
    assert (len(hook.raw), other.raw) == (1, [])
    assert telling.store.callbacks.pending() == 1


def test_who_is_gone_is_told_no_more(telling: Telling) -> None:
    hook = Hook()
    hook.status = 410
    with hook_server(hook) as port:
        telling.ended(Callback(url=f"http://127.0.0.1:{port}/"))
        telling.teller.look()
    assert telling.store.callbacks.pending() == 0


def test_one_that_cannot_be_reached_holds_up_no_other_one(telling: Telling) -> None:
    hook = Hook()
    with hook_server(hook) as port:
        telling.ended(Callback(url=f"http://127.0.0.1:{free_port()}/"))
        telling.ended(Callback(url=f"http://127.0.0.1:{port}/"))
        telling.teller.look()
    assert len(hook.messages) == 1
    assert telling.store.callbacks.pending() == 1


def test_a_certificate_must_be_good(tmp_path: Path) -> None:
    cert, context = certificate(tmp_path)
    hook = Hook()
    with hook_server(hook, tls=context) as port:
        for section, told in (({}, 0), ({"ca_file": cert}, 1)):
            telling = Telling(tmp_path / f"site{told}", notify=section)
            with telling.store:
                telling.ended(Callback(url=f"https://127.0.0.1:{port}/"))
                telling.teller.look()
                assert (len(hook.messages), telling.store.callbacks.pending()) == (told, 1 - told)


def test_without_a_broker_nobody_behind_one_is_told(telling: Telling, caplog: pytest.LogCaptureFixture) -> None:
    telling.ended(Callback(queue="q"))
    telling.teller.look()
    assert telling.store.callbacks.pending() == 0
    assert "amqp_url" in caplog.text


@pytest.mark.timeout(180)
def test_a_queue_is_told_once_it_is_there(tmp_path: Path, rabbit: PrivateRabbit) -> None:
    notify: dict[str, object] = {"amqp_url": rabbit.url, "amqp_password_file": password_file(rabbit, tmp_path)}
    telling = Telling(tmp_path / "site", notify=notify)
    name = f"jobs-{tmp_path.name}"
    with telling.store, client_of(rabbit) as client:
        queue = Queue(name, durable=True)(client.default_channel)
        extra = {"IncidentID": "42"}
        job = telling.ended(Callback(queue=name, extra=extra), origin="dm", result={"objects": ["an-object"]})
        telling.teller.look()
        assert telling.store.callbacks.pending() == 1
        queue.declare()
        telling.clock.now += 5000
        telling.ended(Callback(queue=name, extra=extra), JobState.FAILED, origin="dm", reason="no room")
        telling.teller.look()
        assert telling.store.callbacks.pending() == 0
        taken = [queue.get(no_ack=True) for _ in range(2)]
        telling.teller.close()
    done, failed = (json.loads(message.body) for message in taken)
    assert (done["job"]["id"], done["IncidentID"], done["response"], done["success"]) == (
        job.id,
        "42",
        "an-object",
        True,
    )
    assert (failed["response"], failed["success"]) == ("no room", False)
