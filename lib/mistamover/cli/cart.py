"""`mistamover cart`: ask the front for carts, look after them, and fetch their bundles, over the REST API."""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mistamover.cli import cart_view
from mistamover.cli.cart_fetch import fetch
from mistamover.cli.common import emit, print_json, printable
from mistamover.cli.job import ended, worst
from mistamover.cli.job_client import Client, add_client_options, client_of
from mistamover.errors import UsageError

NAME = "cart"
HELP = "gather files of an archive for one download: create carts, list, show, retry, delete, purge, get them"

_EPILOG = """\
A cart holds files of an archive, gathered for one download. A FILE is ID=PATH: what the archive calls it, and where it
is to be in the bundle; without =PATH it is called in the bundle as in the archive. `get` goes on where an earlier one
was cut off.

Exit status: 0 done; 1 refused, in error, or nobody answers; 2 wrong words or configuration; 3 cancelled.
`mistamover cart VERB --help` says more.

Examples:
  mistamover cart create 105=run7/a.nc 106=run7/b.nc        make a cart; its uid is printed
  mistamover cart create --from cart.json --uid my-cart --wait
  mistamover cart list --state error
  mistamover cart show my-cart
  mistamover cart get my-cart -o my_cart.tar
  mistamover cart retry my-cart                             what failed only
  mistamover cart delete my-cart
  mistamover cart purge --unused 180d                       all that nobody has used for so long
"""

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_STATES = ("waiting", "staging", "bundling", "ready", "error")


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its verbs."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    verbs = parser.add_subparsers(metavar="create|list|show|retry|delete|purge|get", required=True)
    _configure_create(_verb(verbs, "create", "ask for a cart", _create))
    listing = _verb(verbs, "list", "list carts, the newest first", _list)
    listing.add_argument("--state", choices=_STATES)
    for name in ("uid", "owner"):
        listing.add_argument(f"--{name}", help=f"only carts of this {name}")
    listing.add_argument("--limit", metavar="N", type=_count, default=20, help="how many, at most (default: 20)")
    _verb(verbs, "show", "show carts, and how far they are", _show, carts=True)
    _verb(verbs, "retry", "let carts that are in error go on with what failed", _retry, carts=True)
    _verb(verbs, "delete", "delete carts, whatever they are at", _delete, carts=True)
    purging = _verb(verbs, "purge", "delete carts that nobody has used for long", _purge)
    purging.add_argument("--unused", metavar="AGE", default="180d", help="for how long: 36h, 180d (default: 180d)")
    getting = _verb(verbs, "get", "download the bundle of a cart", _get)
    getting.add_argument("uid", metavar="UID")
    getting.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="where to (default: as the front calls it, here)"
    )
    getting.add_argument("--force", action="store_true", help="replace a file that is there already")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, do what it says; return the exit status. Raise MistamoverError."""
    act: Callable[[Client, argparse.Namespace], int] = arguments.act
    return act(client_of(arguments), arguments)


def cart_path(uid: str) -> str:
    """Given a uid as written, return the path of its cart."""
    return f"/carts/{quote(uid, safe='')}"


def _verb(
    verbs: Any, name: str, words: str, act: Callable[[Client, argparse.Namespace], int], *, carts: bool = False
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=words, description=f"{words.capitalize()}.")
    add_client_options(parser)
    if carts:
        parser.add_argument("carts", metavar="UID", nargs="+", help="uids of carts")
    parser.set_defaults(act=act)
    return parser


def _configure_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="*", help="ID=PATH, or ID")
    parser.add_argument(
        "--from",
        dest="document",
        metavar="JSON",
        type=Path,
        help="take all from a JSON document with fileids; - is stdin",
    )
    parser.add_argument("--uid", help="the name of the cart (default: a new one)")
    parser.add_argument("--archive", help="the endpoint that the files come from")
    parser.add_argument("--format", choices=("tar", "zip", "tar.zst"))
    parser.add_argument("--layout", choices=("plain", "bagit"))
    parser.add_argument("--store", action=argparse.BooleanOptionalAction, help="make the bundle once, and keep it")
    parser.add_argument("--manifest", action=argparse.BooleanOptionalAction, help="tell the hashes of all files in it")
    parser.add_argument("--wait", action="store_true", help="until it is ready; the exit status tells how it went")


def _create(client: Client, arguments: argparse.Namespace) -> int:
    cart = client.ask("POST", "/carts", _body(arguments), headers={"Idempotency-Key": uuid.uuid4().hex})
    if arguments.wait:
        jobs = ended(client, [str(cart["job"])], None)
        _tell(client.ask("GET", cart_path(str(cart["uid"]))), as_json=arguments.json)
        return worst(jobs)
    if arguments.json:
        print_json(cart)
    else:
        emit(str(cart["uid"]))
    return 0


def _body(arguments: argparse.Namespace) -> dict[str, Any]:
    if bool(arguments.files) == (arguments.document is not None):
        raise UsageError("name the files, or a document by --from")
    body = {"fileids": [_file(word) for word in arguments.files]} if arguments.files else _document(arguments.document)
    said = {
        "uid": arguments.uid,
        "archive": arguments.archive,
        "format": arguments.format,
        "layout": arguments.layout,
        "bundle": arguments.store,
        "manifest": arguments.manifest,
    }
    return body | {name: value for name, value in said.items() if value is not None}


def _file(word: str) -> dict[str, str]:
    identity, equals, path = word.partition("=")
    if not identity or (equals and not path):
        raise UsageError(f"{printable(word)} is no file: write ID=PATH, or ID")
    return {"id": identity, "path": path or identity}


def _document(path: Path) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        value = json.loads(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object")
    return value


def _list(client: Client, arguments: argparse.Namespace) -> int:
    filters = {name: getattr(arguments, name) for name in ("state", "uid", "owner")}
    query: dict[str, object] = {name: value for name, value in filters.items() if value}
    carts: list[Mapping[str, Any]] = []
    while len(carts) < arguments.limit:
        page = client.ask("GET", "/carts", query={**query, "limit": min(1_000, arguments.limit - len(carts))})
        carts += page["carts"]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    if arguments.json:
        print_json({"carts": carts})
    else:
        emit(*cart_view.overview(carts))
    return 0


def _show(client: Client, arguments: argparse.Namespace) -> int:
    for uid in arguments.carts:
        cart = client.ask("GET", cart_path(uid))
        if arguments.json:
            print_json(cart)
        else:
            emit(*cart_view.lines(cart), "")
    return 0


def _retry(client: Client, arguments: argparse.Namespace) -> int:
    for uid in arguments.carts:
        _tell(client.ask("POST", f"{cart_path(uid)}/retry"), as_json=arguments.json)
    return 0


def _delete(client: Client, arguments: argparse.Namespace) -> int:
    for uid in arguments.carts:
        client.ask("DELETE", cart_path(uid))
        if arguments.json:
            print_json({"uid": uid, "state": "deleted"}, indent=None)
        else:
            emit(f"{printable(uid)}: deleted")
    return 0


def _purge(client: Client, arguments: argparse.Namespace) -> int:
    answer = client.ask("DELETE", "/carts", query={"unused": _age(arguments.unused)})
    if arguments.json:
        print_json(answer, indent=None)
    else:
        emit(f"{answer['deleted']} deleted")
    return 0


def _get(client: Client, arguments: argparse.Namespace) -> int:
    path = fetch(client, f"{cart_path(arguments.uid)}/content", arguments.output, replace=arguments.force)
    if arguments.json:
        print_json({"uid": arguments.uid, "file": str(path)}, indent=None)
    else:
        emit(printable(path))
    return 0


def _tell(cart: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(cart, indent=None)
    else:
        reason = f": {printable(str(cart['message']))}" if cart["message"] else ""
        emit(f"{cart['uid']}: {cart['state']}{reason} ({cart_view.progress(cart)})")


def _age(word: str) -> float:
    """Given an age as people write it, return its seconds. Raise UsageError."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([smhdw])", word.strip().lower())
    if found is None:
        raise UsageError(f"{printable(word)} is no age: write 36h, or 180d")
    return float(found[1]) * _UNITS[found[2]]


def _count(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return number
