"""What an S3 store or the way to it says, turned into our own errors: who is to blame, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mistamover.errors import LinkError, TargetError, TransportError
from mistamover.transport.far import FarRefusal

T = TypeVar("T")

#: Said of a checksum that does not fit the content: by the original, and by others.
DAMAGED = frozenset(("BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "InvalidDigest"))

DENIED = frozenset(("AccessDenied", "403", "AllAccessDisabled", "MethodNotAllowed"))

_LOGIN = frozenset(
    (
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "RequestTimeTooSkewed",
        "AuthorizationHeaderMalformed",
    )
)

#: Said of one name, or of one content.
_REFUSED = frozenset(
    ("KeyTooLongError", "KeyTooLong", "InvalidObjectName", "XMinioInvalidObjectName", "InvalidURI", "EntityTooLarge")
)

#: Nothing has this name.
_NOTHING = frozenset(("NoSuchKey", "404", "NotFound"))


class Nothing(FarRefusal):
    """Nothing has the name that was asked for."""


class Denied(TargetError):
    """The store lets us not do this: with this name, or with any."""


class Damaged(LinkError):
    """What arrived was not what was sent."""


def translated(call: Callable[[], T]) -> T:
    """Given a call of the library, return what it returns. Raise TransportError for what goes wrong."""
    from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

    try:
        return call()
    except ClientError as error:
        said = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise judged(str(said.get("Code", "")), str(said.get("Message", "")), int(status)) from error
    except ParamValidationError as error:
        raise FarRefusal(f"not a name for an object: {error}") from error
    except BotoCoreError as error:
        raise LinkError(_one_line(str(error))) from error
    except OSError as error:
        raise LinkError(f"the connection to the store failed: {error.strerror or error}") from error


def judged(code: str, message: str, status: int) -> TransportError:
    """Given the code, the words and the HTTP status of a store's refusal, return our error."""
    words = _one_line(f"the store says {code}" + (f": {message}" if message and message != code else ""))
    if code in _NOTHING:
        return Nothing(words)
    if code in DENIED:
        return Denied(words)
    if code in DAMAGED:
        return Damaged(words)
    if code in _LOGIN:
        return LinkError(words)
    if code in _REFUSED:
        return FarRefusal(words)
    if code in ("NoSuchBucket", "PermanentRedirect", "301"):
        return TargetError(f"{words} (no such bucket there, or it is in another region)")
    return TargetError(f"{words} (HTTP status {status})")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
