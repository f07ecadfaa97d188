"""The contract of transports, kept by `s3`; and what only this one can be asked."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract import Contract, End, Traits, confirmed, deliver
from laws import ours
from mistamover.config.access import S3Access
from mistamover.config.settings import TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.testing.s3_server import PrivateS3
from mistamover.transport.base import Transport
from mistamover.transport.by_file import ByFile
from mistamover.transport.s3 import PART, S3Files, Store
from support import Entry, free_port


def _takes(name: bytes) -> bool:
    try:
        # A newline is where moto ends a name; a real store takes it.
        return b"\n" not in name.decode().encode()
    except UnicodeDecodeError:
        return False


class Bucket(End):
    """An end that is a prefix in a bucket of its own."""

    traits = Traits(
        links=False, directories=False, attributes=False, reserve=False, takes=_takes, huge=40 * 1024 * 1024
    )

    # A look keeps the store busy, which has to answer others as well.
    clock = staticmethod(time.monotonic)

    def __init__(self, place: Path, s3: PrivateS3) -> None:
        self.bucket = s3.bucket(uuid.uuid4().hex)
        self._s3 = s3
        self.far: Callable[[S3Access, Store | None], S3Files] = S3Files
        super().__init__(place, self._to)

    def access(self, **changes: object) -> S3Access:
        """Return how to get there."""
        given: dict[str, object] = {
            "bucket": self.bucket.name,
            "prefix": "pre/fix/",
            "endpoint_url": self._s3.url,
            "region": None,
            "profile": None,
            "secret_file": self._s3.secret_file,
            "ca_file": None,
            "addressing": "path",
        }
        return S3Access(**{**given, **changes})  # type: ignore[arg-type]

    def _to(self, _: End, target: TargetSettings, keep: bool) -> Transport:
        access = target.access if isinstance(target.access, S3Access) else self.access()
        store = Store(access)
        return ByFile(
            lambda: self.far(access, store),
            source=os.fsencode(self.source),
            target=target,
            run_dir=self.run,
            owner="me",
            keep_extra=keep,
        )

    def tree(self) -> dict[bytes, Entry]:
        return {
            key.removeprefix(b"pre/fix/"): Entry("file", hashlib.sha256(content).hexdigest(), 0, 0)
            for key, content in self.bucket.contents().items()
        }

    def leftovers(self) -> list[bytes]:
        return [key for key in self.bucket.names() if ours(os.fsdecode(key))]

    def plant(self, name: bytes, content: bytes) -> None:
        self.bucket.put(b"pre/fix/" + name, content)

    def uproot(self, name: bytes) -> None:
        self.bucket.client.delete_object(Bucket=self.bucket.name, Key=f"pre/fix/{name.decode()}")

    def unreachable(self) -> Transport | None:
        return self.transport(access=self.access(endpoint_url=f"http://127.0.0.1:{free_port()}"))


class TestS3(Contract):
    @pytest.fixture
    def end(self, scratch: Path, s3: PrivateS3) -> Iterator[Bucket]:
        made = Bucket(scratch, s3)
        yield made
        made.close()


@pytest.fixture
def end(scratch: Path, s3: PrivateS3) -> Iterator[Bucket]:
    made = Bucket(scratch, s3)
    yield made
    made.close()


class WriteOnly(S3Files):
    def read(self, path: bytes) -> Iterator[bytes]:
        raise AssertionError(f"{path!r} is read back")


def test_what_the_store_has_checked_is_not_read_back(end: Bucket) -> None:
    end.far = WriteOnly
    transport = end.transport()
    assert "checks the sha256" in transport.open().description
    units = [end.put("small", b"content"), end.sparse("in parts", 3 * PART)]
    for name, verdict in confirmed(deliver(transport, units)).items():
        content = (end.source / os.fsdecode(name)).read_bytes()
        assert (verdict.algorithm, verdict.digest) == ("sha256", hashlib.sha256(content).hexdigest())


def test_a_store_that_checks_nothing_is_read_back(scratch: Path) -> None:
    with PrivateS3(checks=False) as s3:
        end = Bucket(scratch, s3)
        transport = end.transport()
        assert "read back" in transport.open().description
        units = [end.put("small", b"content"), end.sparse("in parts", 3 * PART)]
        assert {verdict.algorithm for verdict in confirmed(deliver(transport, units)).values()} == {"xxh128"}
        end.same(end.public(), end.expected())
        end.close()
        assert not end.leftovers()


def test_the_time_of_modification_is_sent_with_the_object(end: Bucket) -> None:
    transport = end.transport()
    transport.open()
    confirmed(deliver(transport, [end.put("file")]))
    head = end.bucket.client.head_object(Bucket=end.bucket.name, Key="pre/fix/file")
    assert head["Metadata"]["mtime"] == "1000000000.987654321"


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"bucket": "no-such-bucket"}, TargetError, "NoSuchBucket"),
        ({"profile": "nobody", "secret_file": None}, LinkError, "nobody"),
        ({"prefix": "denied/"}, TargetError, "AccessDenied"),
    ],
)
def test_what_is_wrong_is_said(end: Bucket, changes: dict[str, object], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        end.transport(access=end.access(**changes)).open()
    secret = end.access().secret_file
    assert secret is not None and secret.read_text().split()[1] not in str(caught.value)


def test_a_name_that_is_denied_harms_no_other(end: Bucket) -> None:
    transport = end.transport()
    transport.open()
    verdicts = deliver(transport, [end.put("a"), end.put("denied/b"), end.put("c")])
    assert "AccessDenied" in getattr(verdicts[b"denied/b"], "reason", "")
    assert set(end.files()) == {b"a", b"c"}


def test_a_name_that_is_too_long_is_refused(end: Bucket) -> None:
    transport = end.transport()
    transport.open()
    [verdict] = deliver(transport, [end.put("/".join(["d" * 200] * 6))]).values()
    assert "1024" in getattr(verdict, "reason", "")
