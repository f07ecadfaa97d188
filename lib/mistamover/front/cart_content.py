"""The bundles of carts on their way to clients: made on the fly, or from the file that was stored of them.

A tar has a size and ranges either way.  What else is made on the fly is sent as it comes, without.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from weakref import WeakValueDictionary

from starlette.datastructures import Headers
from starlette.responses import Response

from mistamover.errors import BundleBroken
from mistamover.front.content import Reading, far, served
from mistamover.front.context import Front
from mistamover.front.errors import Refused
from mistamover.front.words import masked
from mistamover.jobs import paths
from mistamover.jobs.cart_model import BundleFormat, Cart, CartState
from mistamover.jobs.carts.composing import pieces
from mistamover.jobs.carts.members import Member, members_with
from mistamover.jobs.carts.tar import VirtualTar

logger = logging.getLogger(__name__)

#: Bytes that are read at a time: a download begins with the smallest piece, and each may be twice the one before. Large
#: ones are faster (measured: 256 KiB takes twice the processor's time of 1 MiB, and that a quarter more than 2 MiB),
#: but each download has about three of them in memory, and all together may have `_IN_MEMORY` of one each.
_LARGEST_PIECE, _SMALLEST_PIECE = 2 << 20, 64 << 10
_IN_MEMORY = 4 << 20

#: Bytes of a piece of what cannot be begun anywhere.
_USUAL_PIECE = 256 << 10

#: Characters of a file's name that need no quotes in a header; others become underscores.
_UNSAFE = re.compile(r"[^A-Za-z0-9._+=@-]")

#: Characters of such a name.
_LONGEST_NAME = 200

#: Tars that are being sent, by their cart and their top: there may be thousands of members, and many who want them.
_TARS: WeakValueDictionary[tuple[str, float | None, str], VirtualTar] = WeakValueDictionary()
_MAKING = threading.Lock()


async def send(front: Front, headers: Headers, cart: Cart, filename: str = "", *, head: bool = False) -> Response:
    """Given a cart that is ready, and how a client wants its bundle to be called, return the answer: 200, 206 or 304.

    Raise Refused (404, 416).
    """
    name = bundle_name(cart, filename)

    def opened() -> Reading:
        return _opened(front, cart, name)

    reading = await far(front, opened)
    form = cart.form
    about = f"{cart.job.id} {cart.job.ended} {reading.size} {'' if form.stored else name}"
    tag = hashlib.sha256(about.encode()).hexdigest()[:32]
    shown = f'attachment; filename="{name}"' if form.stored else f"attachment; filename={name}"
    return await served(front, headers, reading, tag=tag, disposition=shown, head=head, settled=True)


def need_ready(cart: Cart) -> None:
    """Given a cart, return if it can be downloaded. Raise Refused (409)."""
    if cart.state is not CartState.READY:
        words = f"this cart is in error: {cart.message}" if cart.state is CartState.ERROR else f"it is {cart.state}"
        raise Refused(409, "cart-state", f"there is nothing to download yet: {words}")


def bundle_name(cart: Cart, filename: str) -> str:
    """Given a cart, and how a client wants its bundle to be called, return what it is called, safely.

    Without a wish it is the time at which the cart was ready: the same each time, so that a download can go on.
    """
    ending = f".{cart.form.format.value}"
    name = _UNSAFE.sub("_", paths.file_name(filename).replace(" ", "_"))
    if name.strip("._") == "":
        moment = time.localtime(cart.job.ended or cart.job.created)
        return time.strftime("data_%Y_%m_%d_%H_%M_%S", moment) + ending
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - len(ending)] + ending
    return name


def _opened(front: Front, cart: Cart, name: str) -> Reading:
    """Return what reads the bundle of a cart, which stays until that is closed. Raise Refused (404)."""
    job = cart.job.id
    number = front.downloads.begin(job)
    if number is None:
        raise Refused(404, "unknown-cart", "the cart does not exist any more")
    try:
        return _stored(front, cart, number) if cart.form.stored else _made(front, cart, name, number)
    except BundleBroken as error:
        front.downloads.end(number)
        # Where the volume is, is no client's business.
        raise Refused(404, error.code, masked(str(error), front.known.instead())) from error
    except BaseException:
        front.downloads.end(number)
        raise


def _made(front: Front, cart: Cart, name: str, number: int) -> Reading:
    top = name.removesuffix(f".{cart.form.format.value}") or name
    mtime = cart.job.ended or cart.job.created

    def close() -> None:
        front.downloads.end(number)

    if cart.form.format is BundleFormat.TAR:
        tar = _tar(front, cart, top)

        def begin(offset: int) -> Iterator[bytes]:
            return _whole(_by_and_by(front, offset, lambda at, most: b"".join(tar.pieces(at, at + most, piece=most))))

        return Reading(begin, size=tar.size, mtime=mtime, close=close)
    members = _members(front, cart, top)
    # It has no ranges, and so always begins with its first byte.
    return Reading(
        lambda _: _whole(pieces(cart.form, members, piece=_USUAL_PIECE)), size=None, mtime=mtime, close=close
    )


def _whole(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the parts of a bundle; where one breaks, say so, and forget what was known of the files. Raise OSError."""
    try:
        yield from parts
    except BundleBroken as error:
        logger.error("a download is cut off: %s", error, extra={"action": "cart"})
        _TARS.clear()
        raise OSError("the bundle broke while it was sent") from error


def _tar(front: Front, cart: Cart, top: str) -> VirtualTar:
    key = (cart.job.id, cart.job.ended, top)
    # One at a time: the second one who wants the same finds it made, and others' would take its time and its memory.
    with _MAKING:
        tar = _TARS.get(key)
        if tar is None:
            tar = _TARS[key] = VirtualTar(_members(front, cart, top))
    return tar


def _members(front: Front, cart: Cart, top: str) -> Sequence[Member]:
    return members_with(cart, front.store.carts.files(cart.job.id), front.carts.volume, top)


def _stored(front: Front, cart: Cart, number: int) -> Reading:
    path = os.fsencode(front.carts.volume.bundle(cart.job.id, cart.form.format))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BundleBroken(f"the bundle is not there: {error.strerror}") from error
    there = os.fstat(descriptor)

    def begin(offset: int) -> Iterator[bytes]:
        return _by_and_by(front, offset, lambda at, most: os.pread(descriptor, most, at))

    def close() -> None:
        os.close(descriptor)
        front.downloads.end(number)

    if not stat.S_ISREG(there.st_mode):
        os.close(descriptor)
        raise BundleBroken("the bundle is no file")
    return Reading(begin, size=there.st_size, mtime=there.st_mtime, close=close)


def _by_and_by(front: Front, offset: int, read: Callable[[int, int], bytes]) -> Iterator[bytes]:
    """Given where to begin and what reads so many bytes at a place, yield all from there on in pieces."""
    most = _SMALLEST_PIECE
    while piece := read(offset, most):
        yield piece
        offset += len(piece)
        most = min(2 * most, _LARGEST_PIECE, max(_SMALLEST_PIECE, _IN_MEMORY // max(1, front.downloads.count)))
