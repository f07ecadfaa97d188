"""The far end that is a bucket of an S3 store, met through botocore.

An object appears whole, or not at all, and is kept safely once the store has said so; there are no directories, and
nothing can be renamed.  The store checks the sha256 that each object, or part of a large one, is sent with.  Whether
it does is tried at the beginning, with a wrong one; where it does not, what was sent is read back.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from mistamover.config.access import S3Access
from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.errors import LinkError, SecretError, TargetError
from mistamover.files.private import read_private
from mistamover.model import Kind
from mistamover.transport import by_file
from mistamover.transport.base import Transport
from mistamover.transport.calls import Calls
from mistamover.transport.far import FarRefusal, Means, Pieces, There
from mistamover.transport.reading import Reading
from mistamover.transport.s3_errors import Damaged, Denied, Nothing, translated

#: Larger ones are sent in parts, and parts are never smaller: so much of a file is in memory at a time.
PART = 8 * 1024 * 1024

_MOST_PARTS = 10_000
_LONGEST_KEY = 1024
_PIECE = 1 << 20

#: Seconds for a connection and for an answer, and how often both are tried.
_CONNECT, _ANSWER, _TRIES = 10, 60, 2
_BOUND = _TRIES * (_CONNECT + _ANSWER) + 10.0

#: Answers come from afar: so many objects are sent at a time.
_SIDE_BY_SIDE = 6

_PROBE = b".mistamover-checksum"
_HASH = "sha256"


class Store:
    """What all connections to one bucket share: the library's client, which is slow to make, and what is known."""

    def __init__(self, settings: S3Access) -> None:
        """Given how to get there, make nothing yet."""
        self._settings = settings
        self._lock = threading.Lock()
        self._client: Any = None
        self.checks: bool | None = None
        """Whether the store checks checksums; None until that was tried."""

    def client(self) -> Any:
        """Return the client. Raise TransportError."""
        with self._lock:
            if self._client is None:
                self._client = _client(self._settings)
            return self._client

    def forget(self) -> None:
        """Make a new client the next time."""
        with self._lock:
            self._client = None


class S3Files:
    """One connection to a bucket, or to what is below a prefix in it."""

    def __init__(self, settings: S3Access, store: Store | None = None) -> None:
        """Given how to get there, and what other connections to it share, prepare; `connect` loads the library."""
        self._settings = settings
        self._store = store or Store(settings)
        self._calls = Calls("s3")
        self._client: Any = None
        self._checks = False
        #: The hash of the hashes of what was sent in parts last, as the store gives it, and that of the whole.
        self._composed: dict[bytes, tuple[str, str]] = {}
        #: The hash of what was sent last, where the store has answered that it is what it has.
        self._proven: dict[bytes, str] = {}

    def connect(self) -> Means:
        """See that the bucket is there and can be listed and written, and whether the store checks what it is sent."""
        self._client = self._calls.run(_BOUND, self._store.client)
        try:
            self._ask("list_objects_v2", Prefix=self._prefix(b""), MaxKeys=1)
        except LinkError:
            # What logs in may be another one by now.
            self._store.forget()
            raise
        if self._store.checks is None:
            self._store.checks = self._try_wrong_checksum()
        self._checks = self._store.checks
        proof = "the store checks the sha256 of what it is sent" if self._checks else "the store checks no sha256"
        return Means(
            description=f"S3, bucket {self._settings.bucket}; {proof}",
            rename=False,
            whole=True,
            directories=False,
            links=False,
            attributes=False,
            flush=False,
            hashes=(_HASH,) if self._checks else (),
            resume=False,
            side_by_side=_SIDE_BY_SIDE,
            pieces=True,
        )

    def look(self, path: bytes) -> There | None:
        """Return what has a name: an object, or a directory if there are objects below it."""
        try:
            found = self._ask("head_object", Key=self._key(path))
        except Nothing:
            below = self._ask("list_objects_v2", Prefix=self._prefix(path), MaxKeys=1)
            return There(kind=Kind.DIRECTORY, size=0, mtime=0.0) if below.get("Contents") else None
        return There(kind=Kind.FILE, size=int(found["ContentLength"]), mtime=_mtime(found))

    def names(self, path: bytes) -> list[bytes]:
        """Return the next parts of the names of all objects below a prefix."""
        prefix = self._prefix(path)
        found: dict[bytes, None] = {}
        more: dict[str, Any] = {}
        while True:
            page = self._ask("list_objects_v2", Prefix=prefix, Delimiter="/", **more)
            texts = [each["Key"] for each in page.get("Contents", ())]
            texts += [each["Prefix"].removesuffix("/") for each in page.get("CommonPrefixes", ())]
            found.update((text[len(prefix) :].encode(), None) for text in texts if text != prefix)
            if not page.get("IsTruncated"):
                return list(found)
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def make_directory(self, path: bytes) -> None:
        """Do nothing: names have their directories in them."""

    def write(self, path: bytes, source: int, size: int, offset: int, told: Callable[[int], None]) -> None:
        """Send a file; it appears when the store has all of it."""
        self.write_from(path, Reading(source), size, told)

    def write_from(self, path: bytes, reading: Pieces, size: int, told: Callable[[int], None]) -> None:
        """Send content from elsewhere in the same way."""
        key = self._key(path)
        metadata = {"mtime": f"{Decimal(reading.mtime_ns).scaleb(-9):f}"}
        self._proven, self._composed = {}, {}
        try:
            if size <= PART:
                data = reading.piece(size, 0)
                reading.same()
                proof = self._proof(data)
                # Before anything can appear: it looks whether this is what was to be sent.
                told(size)
                answer = self._ask("put_object", lambda: told(0), Key=key, Body=data, Metadata=metadata, **proof)
                if self._checks and answer.get("ChecksumSHA256") == proof["ChecksumSHA256"]:
                    self._proven = {path: hashlib.sha256(data).hexdigest()}
            else:
                self._write_parts(path, key, reading, size, metadata, told)
        except Denied as error:
            self._why_denied(error)

    def read(self, path: bytes) -> Iterator[bytes]:
        """Yield the content of an object."""
        return self.read_from(path, 0)

    def read_from(self, path: bytes, offset: int) -> Iterator[bytes]:
        """Yield the content of an object from a position on."""
        part: dict[str, Any] = {"Range": f"bytes={offset}-"} if offset else {}
        body = self._ask("get_object", Key=self._key(path), **part)["Body"]
        try:
            while piece := self._calls.run(_BOUND, lambda: translated(lambda: body.read(_PIECE))):
                yield bytes(piece)
        finally:
            body.close()

    def digest(self, path: bytes, algorithm: str) -> str:
        """Return the hash that the store has checked; that of an object which others sent in parts is read back."""
        if path in self._proven:
            return self._proven[path]
        found = self._ask("head_object", Key=self._key(path), ChecksumMode="ENABLED")
        stored = str(found.get("ChecksumSHA256", ""))
        composed, whole = self._composed.get(path, ("", ""))
        if composed and stored.partition("-")[0] == composed:
            return whole
        # Of what was sent in parts it is the hash of their hashes, and not every store says so in the same place.
        in_parts = "-" in stored or "-" in str(found.get("ETag", "")) or found.get("ChecksumType") == "COMPOSITE"
        if stored and not in_parts:
            return base64.b64decode(stored).hex()
        digest = hashlib.new(algorithm)
        for piece in self.read(path):
            digest.update(piece)
        return digest.hexdigest()

    def set_attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        """Do nothing: the time of modification is sent with the object, as rclone does it."""

    def flush(self, paths: Sequence[bytes]) -> None:
        """Do nothing: the store answers when it has an object for good."""

    def rename(self, old: bytes, new: bytes) -> None:
        """Refuse: a copy and a removal are no renaming."""
        raise FarRefusal("an object cannot be renamed")

    def symlink(self, text: bytes, path: bytes) -> None:
        """Refuse."""
        raise FarRefusal("an object store has no links")

    def remove(self, path: bytes) -> None:
        """Remove an object."""
        try:
            self._ask("delete_object", Key=self._key(path))
        except Nothing:
            return
        except Denied as error:
            self._why_denied(error)

    def remove_directory(self, path: bytes) -> None:
        """Be content when nothing is below the prefix: then it is no directory."""
        if self._ask("list_objects_v2", Prefix=self._prefix(path), MaxKeys=1).get("Contents"):
            raise FarRefusal("not empty")

    def free(self) -> int | None:
        """Return None: nobody can tell."""
        return None

    def abort(self) -> None:
        """Give up the call under way; a store that gets it to its end all the same has a whole object."""
        self._calls.abort()

    def close(self) -> None:
        """End the connection."""
        self._calls.close()

    # -- inside -------------------------------------------------------------------------------

    def _ask(self, operation: str, tick: Callable[[], None] | None = None, **arguments: Any) -> Mapping[str, Any]:
        """Given the name of an operation and its arguments, return the store's answer. Raise TransportError.

        `tick`: as that of `Calls.run`.
        """
        if self._client is None:
            raise LinkError("not connected")
        call = getattr(self._client, operation)
        answer: Mapping[str, Any] = self._calls.run(
            _BOUND, lambda: translated(lambda: call(Bucket=self._settings.bucket, **arguments)), tick
        )
        return answer

    def _key(self, path: bytes) -> str:
        whole = self._settings.prefix.encode() + path
        if len(whole) > _LONGEST_KEY:
            raise FarRefusal(f"its name has {len(whole)} bytes, and an object's can have {_LONGEST_KEY}")
        try:
            return whole.decode()
        except UnicodeDecodeError:
            raise FarRefusal("its name is not valid UTF-8, and an object's must be") from None

    def _prefix(self, path: bytes) -> str:
        return self._key(path + b"/") if path else self._settings.prefix

    def _proof(self, data: bytes) -> dict[str, str]:
        """Given what is sent, return by what the store can check it."""
        if self._checks:
            return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": _base64(hashlib.sha256(data).digest())}
        return {"ContentMD5": _base64(hashlib.md5(data, usedforsecurity=False).digest())}

    def _try_wrong_checksum(self) -> bool:
        """Tell whether the store refuses what is sent with a wrong checksum."""
        key = self._key(_PROBE)
        try:
            self._ask("put_object", Key=key, Body=b"wrong", ChecksumSHA256=_base64(hashlib.sha256(b"right").digest()))
        except Damaged:
            return True
        self._ask("delete_object", Key=key)
        return False

    def _why_denied(self, error: Denied) -> None:
        """Given that something was denied, raise FarRefusal if the rest of the target is well, else TargetError."""
        self._try_wrong_checksum()
        raise FarRefusal(str(error)) from error

    def _write_parts(
        self, path: bytes, key: str, reading: Pieces, size: int, metadata: dict[str, str], told: Callable[[int], None]
    ) -> None:
        more: dict[str, Any] = {"ChecksumAlgorithm": "SHA256"} if self._checks else {}
        upload = self._ask("create_multipart_upload", Key=key, Metadata=metadata, **more)["UploadId"]
        try:
            parts, composed, whole = self._send_parts(key, upload, reading, size, told)
            reading.same()
            answer = self._ask("complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:
            self._forget(key, upload)
            raise
        if self._checks:
            self._composed = {path: (composed, whole)}
            if str(answer.get("ChecksumSHA256", "")).partition("-")[0] == composed:
                self._proven = {path: whole}

    def _send_parts(
        self, key: str, upload: str, reading: Pieces, size: int, told: Callable[[int], None]
    ) -> tuple[list[dict[str, Any]], str, str]:
        """Send all parts; return what is to be said of them, the hash of their hashes, and that of the whole."""
        length = max(PART, -(-size // _MOST_PARTS))
        whole, composed = hashlib.sha256(), hashlib.sha256()
        parts: list[dict[str, Any]] = []
        for position in range(0, size, length):
            data = reading.piece(min(length, size - position), position)
            proof, number = self._proof(data), len(parts) + 1
            part: dict[str, Any] = {"UploadId": upload, "PartNumber": number, "Body": data, **proof}
            sent = self._ask("upload_part", lambda: told(0), Key=key, **part)
            whole.update(data)
            composed.update(hashlib.sha256(data).digest())
            checksum = {"ChecksumSHA256": proof["ChecksumSHA256"]} if self._checks else {}
            parts.append({"PartNumber": number, "ETag": sent["ETag"], **checksum})
            told(position + len(data))
        return parts, _base64(composed.digest()), whole.hexdigest()

    def _forget(self, key: str, upload: str) -> None:
        """Let the store throw away the parts of what is not finished, if it can be asked."""
        try:
            self._ask("abort_multipart_upload", Key=key, UploadId=upload)
        except (LinkError, TargetError):
            return


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> Transport:
    """Given a stream, one of its targets, and a name that is the stream's alone, return the transport for it."""
    access = target.access
    assert isinstance(access, S3Access)
    store = Store(access)
    return by_file.make(lambda: S3Files(access, store), stream, target, owner)


def _client(settings: S3Access) -> Any:
    """Given how to get there, return botocore's client. Raise TransportError."""
    try:
        from botocore.config import Config
        from botocore.session import Session
    except ImportError:
        raise TargetError("needs the package botocore: pip install mistamover[s3]") from None

    for name in ("botocore", "urllib3"):
        # What they say of every request would fill the log, and holds what logs in there.
        logging.getLogger(name).setLevel(logging.WARNING)

    def client() -> Any:
        session = Session(profile=settings.profile)
        key, secret = _login(settings)
        return session.create_client(
            "s3",
            region_name=settings.region or session.get_config_variable("region") or "us-east-1",
            endpoint_url=settings.endpoint_url,
            verify=str(settings.ca_file) if settings.ca_file is not None else None,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(
                connect_timeout=_CONNECT,
                read_timeout=_ANSWER,
                max_pool_connections=4 * _SIDE_BY_SIDE,
                retries={"mode": "standard", "total_max_attempts": _TRIES},
                s3={"addressing_style": settings.addressing},
                # What is sent has our own checksum; stores that are not Amazon's stumble over more.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    return translated(client)


def _login(settings: S3Access) -> tuple[str | None, str | None]:
    if settings.secret_file is None:
        return None, None
    try:
        lines = read_private(settings.secret_file)
    except SecretError as error:
        raise LinkError(str(error)) from error
    if len(lines) < 2 or not all(lines[:2]):
        raise LinkError(f"{settings.secret_file}: the id of the key is expected on its first line, the secret below")
    return lines[0].strip(), lines[1].strip()


def _mtime(found: Mapping[str, Any]) -> float:
    try:
        return float(found.get("Metadata", {}).get("mtime", ""))
    except ValueError:
        return float(found["LastModified"].timestamp())


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
