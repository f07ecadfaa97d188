"""How the command `cart` shows carts to people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mistamover.cli.common import human_bytes, printable, table
from mistamover.cli.job_view import when

Cart = Mapping[str, Any]


def lines(cart: Cart) -> list[str]:
    """Given a cart, return all that is to be told of it."""
    rate = cart["progress"]["bytes_per_second"]
    rows = [
        ("cart", str(cart["uid"])),
        ("state", str(cart["state"])),
        ("message", str(cart["message"])),
        ("progress", progress(cart)),
        ("rate", f"{human_bytes(rate)}/s" if rate else ""),
        ("bundle", form(cart)),
        ("owner", str(cart["owner"])),
        ("created", when(cart["created"])),
        ("started", when(cart["started"])),
        ("ended", when(cart["ended"])),
        ("last used", when(cart["last_used"])),
        ("room", human_bytes(cart["reserved"]) if cart["reserved"] else ""),
        ("job", str(cart["job"])),
    ]
    return [f"{name + ':':<13}{printable(text)}" for name, text in rows if text]


def overview(carts: Iterable[Cart]) -> list[str]:
    """Given carts, return a line for each below a header."""
    header = ("cart", "state", "owner", "created", "last used", "progress", "message")
    rows = [
        (printable(str(cart["uid"])), str(cart["state"]), printable(str(cart["owner"])), when(cart["created"]),
         when(cart["last_used"]), progress(cart), printable(str(cart["message"])))
        for cart in carts
    ]  # fmt: skip
    return table(header, rows, left=range(len(header)))


def progress(cart: Cart) -> str:
    """Given a cart, return how far it is."""
    done = cart["progress"]
    size = f", {human_bytes(done['bytes_done'])} of {human_bytes(done['bytes'])}" if done["bytes"] else ""
    return f"{done['files_done']} of {done['files']}{size}"


def form(cart: Cart) -> str:
    """Given a cart, return how its bundle is."""
    words = [str(cart["format"]), "stored" if cart["bundle"] else "made on the fly"]
    if cart["layout"] == "bagit":
        words.append("a bag")
    if cart["manifest"]:
        words.append(f"with a manifest in {cart['hashtype']}")
    return ", ".join(words)
