"""Jobs by way of a broker that is spoken to by TLS: with the right authority they are done, else nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engines import secret_file
from mistamover.jobs.model import JobState
from mistamover.testing.certificate import certify
from mistamover.testing.rabbitmq import PrivateRabbit
from mistamover.testing.redis_server import PrivateRedis
from support import wait_until
from workers import Shop


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> dict[str, object]:
    """The keys of [engine] for a broker that all tests share, without the authority."""
    if request.param == "redis":
        redis: PrivateRedis = request.getfixturevalue("redis_of_all")
        url, password, authority = f"rediss://{redis.host}:{redis.tls_port}/7", redis.password, redis.certificate
    else:
        rabbit: PrivateRabbit = request.getfixturevalue("rabbit_of_all")
        url, password = f"amqps://{rabbit.user}@{rabbit.host}:{rabbit.tls_port}/", rabbit.password
        authority = rabbit.certificate
    return {
        "kind": "celery",
        "broker_url": url,
        "broker_password_file": secret_file(password),
        "broker_ca_file": authority,
    }


@contextmanager
def shop_of(directory: Path, keys: dict[str, object]) -> Iterator[Shop]:
    """A shop whose worker has been started, and a file."""
    made = Shop(directory, engine=keys)
    try:
        (made.here / "a").write_bytes(b"a")
        made.start()
        yield made
    finally:
        made.close()


def test_jobs_are_done(tmp_path: Path, broker: dict[str, object]) -> None:
    with shop_of(tmp_path, broker) as shop:
        shop.until(shop.submit("here:a"))
        assert (shop.there / "a").read_bytes() == b"a"


def test_a_stranger_is_told_nothing(tmp_path: Path, broker: dict[str, object]) -> None:
    """The password is for the broker alone: whoever answers in its place does not get it, and is named in the log."""
    certify(tmp_path / "other.key", tmp_path / "other.pem")
    with shop_of(tmp_path, broker | {"broker_ca_file": tmp_path / "other.pem"}) as shop:
        job = shop.submit("here:a")
        wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in shop.log(), 30, "it says that it does not trust the broker")
        assert shop.job(job).state is JobState.QUEUED
        assert shop.workers[0].poll() is None
