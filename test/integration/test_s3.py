"""Streams that deliver to an S3 store, end to end: moves and mirrors, through outages and a killed agent."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import laws
from agents import agent_of, log_of, said_by, start, until_up
from mistamover.testing.s3_server import Bucket, PrivateS3
from relays import Relay
from support import Site, Stream, wait_until

#: A few batches: the first one is of whatever waits when the connection stands.
FILES = 500


@pytest.fixture
def bucket(s3: PrivateS3) -> Bucket:
    return s3.bucket(uuid.uuid4().hex)


@pytest.fixture
def relay(s3: PrivateS3) -> Iterator[Relay]:
    with Relay(s3.host, s3.port) as made:
        yield made


def add(site: Site, name: str, store: PrivateS3, bucket: Bucket, port: int, **sections: dict[str, object]) -> Stream:
    """Given a site, add a stream that delivers to a bucket by way of a port."""
    outgoing = {"transfer_protocol": "s3", "target_url": f"s3://{bucket.name}/{name}", "target_host": None}
    quick: dict[str, object] = {"empty_directory_age": 0.5, "settle_time": 0.3, "rescan_interval": 3}
    access = {"endpoint_url": f"http://127.0.0.1:{port}", "secret_file": store.secret_file}
    return site.add(
        name,
        data_stream={**quick, **sections.get("data_stream", {})},
        outgoing={**outgoing, "target_dir": None, **sections.get("outgoing", {})},
        s3={**access, **sections.get("s3", {})},
    )


def drop(stream: Stream, numbers: range) -> dict[bytes, bytes]:
    promised = {f"d{n % 5}/file {n}".encode(): b"%d" % n + os.urandom(n % 3000) for n in numbers}
    for name, content in promised.items():
        laws.put(os.fsencode(stream.source) + b"/" + name, content)
    return promised


def left(stream: Stream) -> int:
    return sum(len(files) for _, _, files in os.walk(stream.source))


def test_files_move_through_an_outage_and_a_kill(s3: PrivateS3, bucket: Bucket, relay: Relay, scratch: Path) -> None:
    site = Site(scratch)
    one = add(site, "one", s3, bucket, relay.port)
    promised = drop(one, range(FILES))
    agent = start(site)
    try:
        until_up(site, agent)
        wait_until(lambda: len(bucket.names()) > FILES // 10, 40, "some are there", every=0.2)
        relay.cut()
        wait_until(lambda: "circuit" in str(laws.snapshot(site, one)) or _down(site), 30, "the outage is noticed")
        agent.kill()
        found = bucket.contents()
        lost = [n for n in promised if b"one/" + n not in found and not (one.source / os.fsdecode(n)).exists()]
        assert not lost
    finally:
        agent.kill()
    with agent_of(site):
        relay.mend()
        wait_until(lambda: not left(one), 90, "all are removed here")
        wait_until(lambda: laws.conserves(laws.snapshot(site, one)), 10, "what is seen is accounted for")
    assert bucket.contents() == {b"one/" + name: content for name, content in promised.items()}
    assert s3.secret not in laws.logs(site)
    assert s3.secret not in agent.said()


def _down(site: Site) -> bool:
    last = said_by(site, "one")
    return last is not None and last.state.value == "UNREACHABLE"


def test_a_mirror_keeps_and_removes(s3: PrivateS3, bucket: Bucket, scratch: Path) -> None:
    site = Site(scratch)
    access = {"transfer_mode": "mirror"}
    one = add(site, "one", s3, bucket, s3.port, s3=access, outgoing={"mirror_delete": True})
    promised = drop(one, range(20))
    with agent_of(site):
        wait_until(lambda: len(bucket.names()) == 20, 30, "all are there")
        laws.put(one.source / "d1/file 1", b"another version")
        (one.source / "d2/file 2").unlink()
        promised[b"d1/file 1"] = b"another version"
        del promised[b"d2/file 2"]
        wanted = {b"one/" + name: content for name, content in promised.items()}
        # What is to go has gone then, and does not go between a list and a look.
        wait_until(lambda: bucket.names() == wanted.keys(), 30, "one has gone", every=0.1)
        wait_until(lambda: bucket.contents() == wanted, 30, "the changes are there", every=0.3)
    assert left(one) == 19


def test_directory_units_travel_as_zips(s3: PrivateS3, bucket: Bucket, scratch: Path) -> None:
    site = Site(scratch)
    one = add(site, "one", s3, bucket, s3.port, data_stream={"transfer_unit": "directory"})
    drop(one, range(5))
    with agent_of(site):
        wait_until(lambda: bucket.names() == {b"one/d%d.zip" % n for n in range(5)}, 30, "the zips are there")
        wait_until(lambda: not left(one), 10, "the directories are removed")


def test_a_bucket_that_is_not_there_is_said_and_waited_for(s3: PrivateS3, bucket: Bucket, scratch: Path) -> None:
    site = Site(scratch)
    one = add(site, "one", s3, Bucket(bucket.client, bucket.name + "x"), s3.port)
    promised = drop(one, range(3))
    with agent_of(site):
        wait_until(lambda: "NoSuchBucket" in log_of(site, "dtc_one"), 20, "it is said")
        assert left(one) == 3
        bucket.client.create_bucket(Bucket=bucket.name + "x")
        late = Bucket(bucket.client, bucket.name + "x")
        wait_until(lambda: len(late.names()) == len(promised), 40, "they are delivered")
