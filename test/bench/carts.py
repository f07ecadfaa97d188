"""W11: carts: how fast a bundle made on the fly comes, how soon it begins, what many downloads take of memory."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench.frame import Arena, Bench, Way, open_stage
from bench.results import NotDelivered, Results, Row
from bench.trees import Tree
from served_jobs import JobSite
from support import Agent

DOWNLOADS = 50
_TAR, _CART = "tar cf - | cat", "ours, a cart"
_SECONDS, _FIRST, _MEMORY = "time", "first byte", "memory of the front, RSS"

#: Seconds that a worker may take to gather a cart.
_GATHERED = 1_800.0

#: What one way found: its quantities, each with a value for each turn.
_Found = dict[tuple[str, str], list[float]]


def w11(bench: Bench) -> Results:
    """Carts."""
    many = Tree(directories=bench.size(100, 10), per_directory=bench.size(100, 50), size=100 << 10)
    large = Tree(directories=1, per_directory=1, size=bench.size(2**33, 2**28))
    found = _of_tree(bench, "W11 small", many, bench.times(5), downloads=DOWNLOADS)
    return found.plus(_of_tree(bench, "W11 large", large, bench.times(3), downloads=0))


def _of_tree(bench: Bench, name: str, tree: Tree, turns: int, *, downloads: int) -> Results:
    # All turns are about the same files, in one run of the service: it takes long to gather them.
    ways: list[Way[_Found]] = [
        Way(
            name=_CART,
            settings=f"a cart of {tree.files} files of {tree.size} bytes, gathered by a worker; then, in turns, tar of"
            " its directory through cat, and curl of the bundle, whose file is /dev/null",
            run=lambda arena: _measured(arena, tree, turns, downloads),
            most=1,
        )
    ]
    with open_stage(bench, name, size=2 * tree.bytes + tree.bytes // 4, files=3 * tree.files) as stage:
        rows = []
        for each in stage.take_turns(ways, 1):
            for (way, quantity), values in each.values[0].items():
                unit = "MiB" if quantity == _MEMORY else "s"
                baseline = _TAR if quantity == _SECONDS else None
                row = Row(workload=name, way=way, quantity=quantity, unit=unit, values=tuple(values), baseline=baseline)
                rows.append(row)
        return stage.results(rows)


def _measured(arena: Arena, tree: Tree, turns: int, downloads: int) -> _Found:
    site = JobSite(arena.directory / "site", front={"max_request": 64})
    with site.ini.open("a") as ini:
        ini.write("[carts]\narchive = here\npulls = 8\n")
    tree.make(site.places["here"])
    names = sorted(path.relative_to(site.places["here"]) for path in site.places["here"].rglob("*") if path.is_file())
    found: _Found = {(way, _SECONDS): [] for way in (_TAR, _CART)}
    found[_CART, _FIRST] = []
    with site.running() as agent:
        body = {"uid": "bench", "fileids": [{"id": str(each), "path": str(each)} for each in names]}
        status, cart = site.ask("POST", "/api/v1/carts", body)
        if status != 201:
            raise NotDelivered(f"{status}: {cart}")
        found[_CART, _FIRST].append(_first_byte_when_ready(site, str(cart["job"])))
        files = site.directory / "state/jobs/carts" / str(cart["job"]) / "files"
        for _ in range(turns):
            found[_TAR, _SECONDS].append(_piped(files))
            seconds, first = _fetched(site, tree)
            found[_CART, _SECONDS].append(seconds)
            found[_CART, _FIRST].append(first)
        if downloads:
            found[_CART, _MEMORY] = [_memory_with(site, agent, downloads)]
    return found


def _first_byte_when_ready(site: JobSite, job: str) -> float:
    """Wait until a cart is ready; return how long its first byte takes then."""
    until = time.monotonic() + _GATHERED
    while time.monotonic() < until:
        status, answer = site.ask("GET", f"/api/v1/jobs/{job}?wait=25&items=0")
        if status != 200 or answer["state"] in ("failed", "cancelled"):
            raise NotDelivered(f"{status}: {answer}")
        if answer["state"] == "done":
            begin = time.monotonic()
            with _download(site) as wire:
                wire.recv(1)
                return time.monotonic() - begin
    raise NotDelivered("the cart is not ready")


def _piped(directory: Path) -> float:
    begin = time.monotonic()
    with subprocess.Popen(["tar", "cf", "-", "-C", str(directory), "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(["cat"], stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin


def _fetched(site: JobSite, tree: Tree) -> tuple[float, float]:
    url = f"http://127.0.0.1:{site.port}/cart/bench?filename=bench.tar"
    argv = ["curl", "-sS", "-f", "-o", "/dev/null", "-w", "%{time_total} %{time_starttransfer} %{size_download}", url]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    if int(told[2]) < tree.bytes:
        raise NotDelivered(f"{told[2]} bytes came")
    return float(told[0]), float(told[1])


def _memory_with(site: JobSite, agent: Agent, downloads: int) -> float:
    """Return what the front takes, in MiB, while so many clients are in the middle of a download, and read slowly."""
    master = psutil.Process(agent.process.pid)
    (front,) = [each for each in master.children(recursive=True) if "front" in " ".join(each.cmdline())]
    most = front.memory_info().rss
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(_download(site)) for _ in range(downloads)]
        for _ in range(40):
            for wire in wires:
                wire.recv(1 << 18)
            most = max(most, front.memory_info().rss)
    return most / 2**20


@contextlib.contextmanager
def _download(site: JobSite) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", site.port), timeout=60) as wire:
        wire.sendall(b"GET /cart/bench?filename=bench.tar HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield wire
