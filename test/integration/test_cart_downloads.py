"""Bundles on their way: ranges, downloads that go on behind a cut, files that break, and carts that stay meanwhile."""

from __future__ import annotations

import hashlib
import http.client
import io
import itertools
import os
import random
import socket
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

import cart_sites
import fronts
from cart_sites import filled, newest, posted
from fronts import Answer, Front
from mistamover.errors import NoSpace
from mistamover.front import downloads as lasting
from support import wait_until

#: Small ones, an empty one, one of more than a piece, names of all kinds.
ODD = {"empty": b"", "ümläut/☃": b"snow", "p%q\nr": b"odd", "x" * 200: b"long", "some": os.urandom(70_000)}
FILES = {f"d{number % 7}/f{number:03}": os.urandom(number * 137) for number in range(32)}
FILES |= {"large/one": os.urandom(3_000_000), **ODD}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("carts")
    (directory / "data").mkdir()
    settings = fronts.settings(
        directory / "jobs", directory / "data", dialects=("rest", "cart"), carts_at_root=True, anonymous="admin"
    )
    with fronts.running(cart_sites.with_carts(settings)) as running:
        for uid, stored in (("fly", False), ("stored", True)):
            posted(running, uid, FILES, bundle=stored)
            filled(running, uid, FILES)
        yield running


@pytest.fixture(params=["/fly?filename=x.tar", "/stored"])
def path(request: pytest.FixtureRequest) -> str:
    """Where a bundle is, made on the fly or stored."""
    return str(request.param)


def whole(front: Front, path: str) -> Answer:
    answer = front.ask("GET", path)
    assert answer.status == 200 and answer.headers["content-length"] == str(len(answer.content))
    return answer


def extracted(content: bytes, directory: Path) -> dict[str, bytes]:
    """Given a tar, have tar take it out; return what there is below its top."""
    directory.mkdir()
    subprocess.run(["tar", "xf", "-", "-C", directory], input=content, check=True, timeout=30)
    (top,) = directory.iterdir()
    return {str(file.relative_to(top)): file.read_bytes() for file in top.rglob("*") if file.is_file()}


def test_tar_takes_it_out_as_it_was(front: Front, path: str, tmp_path: Path) -> None:
    found = extracted(whole(front, path).content, tmp_path / "out")
    manifest = found.pop("manifest-md5.txt")
    assert found == FILES
    (top,) = (tmp_path / "out").iterdir()
    done = subprocess.run(["md5sum", "-c"], cwd=top, input=manifest, capture_output=True, timeout=30, check=True)
    assert done.stdout.count(b": OK") == len(FILES)


def test_the_same_bytes_come_each_time_and_from_everywhere(front: Front, path: str) -> None:
    answer = whole(front, path)
    content, size = answer.content, len(answer.content)
    assert whole(front, path).content == content
    some = random.Random(7)
    places = [some.randrange(size) for _ in range(12)]
    for begin, end in [(0, 0), (511, 512), (size - 1, size - 1), (0, size - 1), *itertools.pairwise(places)]:
        begin, end = min(begin, end), max(begin, end)
        part = front.ask("GET", path, headers={"Range": f"bytes={begin}-{end}"})
        assert (part.status, part.headers["content-range"]) == (206, f"bytes {begin}-{end}/{size}")
        assert part.content == content[begin : end + 1]
    assert front.ask("GET", path, headers={"Range": "bytes=-5000"}).content == content[-5_000:]
    beyond = front.ask("GET", path, headers={"Range": f"bytes={size}-"})
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{size}")


def test_a_range_is_only_given_of_what_the_client_has(front: Front, path: str) -> None:
    answer = whole(front, path)
    for condition in (answer.headers["etag"], answer.headers["last-modified"]):
        part = front.ask("GET", path, headers={"Range": "bytes=5-9", "If-Range": condition})
        assert (part.status, part.content) == (206, answer.content[5:10])
    other = front.ask("GET", path, headers={"Range": "bytes=5-9", "If-Range": '"another"'})
    assert (other.status, other.content) == (200, answer.content)
    same = front.ask("GET", path, headers={"If-None-Match": answer.headers["etag"]})
    assert (same.status, same.content) == (304, b"")
    # Another name makes other bytes of it where it is made on the fly.
    named = front.ask("GET", f"{path.partition('?')[0]}?filename=y.tar")
    assert (named.headers["etag"] == answer.headers["etag"]) == (named.content == answer.content)


def cut_and_resumed(front: Front, path: str, number: int) -> str:
    """Download with a client that loses its connection again and again; return the hash of what it has in the end."""
    some, got, etag = random.Random(number), b"", ""
    size = None
    while size is None or len(got) < size:
        connection = http.client.HTTPConnection(front.host, front.port, timeout=60)
        headers = {"Host": "localhost"}
        if got:
            headers |= {"Range": f"bytes={len(got)}-", "If-Range": etag}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        assert response.status == (206 if got else 200), response.status
        etag = response.headers["etag"]
        size = len(got) + int(response.headers["content-length"])
        got += response.read(some.randrange(200_000, 2_500_000))
        connection.close()
    return hashlib.sha256(got).hexdigest()


def test_fifty_clients_at_once_are_cut_and_go_on(front: Front) -> None:
    wanted = {path: hashlib.sha256(whole(front, path).content).hexdigest() for path in ("/fly", "/stored")}
    paths = ["/fly", "/stored"] * 25
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda each: cut_and_resumed(front, each[1], each[0]), enumerate(paths)))
    assert found == [wanted[path] for path in paths]
    wait_until(lambda: downloads(front) == 0, 30, "all of them are over")


def test_curl_goes_on_behind_a_cut(front: Front, path: str, tmp_path: Path) -> None:
    answer = whole(front, path)
    (tmp_path / "x.tar").write_bytes(answer.content[:1_234_567])
    url = f"http://127.0.0.1:{front.port}{path}"
    subprocess.run(["curl", "-sS", "-C", "-", "-o", tmp_path / "x.tar", url], check=True, timeout=30)
    assert (tmp_path / "x.tar").read_bytes() == answer.content


@pytest.mark.parametrize("form", ["tar", "zip", "tar.zst"])
@pytest.mark.parametrize("change", ["gone", "shorter", "longer"])
def test_a_file_that_breaks_on_the_way_breaks_the_download(front: Front, form: str, change: str) -> None:
    # So large that it cannot all be in the buffers of the connection.
    files = {"first": os.urandom(23_000_000), "last": os.urandom(1_000_000)}
    posted(front, "broken", files, format=form)
    last = cart_sites.directory_of(front, filled(front, "broken", files)) / "files/last"
    connection = http.client.HTTPConnection(front.host, front.port, timeout=30)
    connection.request("GET", "/broken", headers={"Host": "localhost"})
    response = connection.getresponse()
    assert response.status == 200
    response.read(10)
    match change:
        case "gone":
            last.unlink()
        case "shorter":
            os.truncate(last, 999_999)
        case "longer":
            os.truncate(last, 1_000_001)
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        response.read()
    connection.close()
    assert front.ask("GET", "/broken").status == 404
    front.ask("DELETE", "/broken")


def downloads(front: Front) -> int:
    """Return how many downloads the store knows of."""
    with front.store.database.read() as connection:
        return int(connection.exec_driver_sql("select count(*) from cart_downloads").scalar_one())


def test_a_cart_stays_while_it_is_downloaded_however_slowly(front: Front) -> None:
    files = {"large": os.urandom(8_000_000), "f": b"x"}
    posted(front, "kept", files)
    cart = filled(front, "kept", files)
    posted(front, "hungry")
    hungry = newest(front, "hungry").job.id
    before = downloads(front)
    with socket.create_connection((front.host, front.port), timeout=10) as wire:
        wire.sendall(b"GET /kept HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        got = wire.recv(1000)
        assert downloads(front) == before + 1
        others = list(iter(lambda: front.store.carts.evict_one(hungry, unused_since=time.time()), None))
        assert cart.job.id not in others
        with pytest.raises(NoSpace):
            front.store.carts.reserve(hungry, 2_000_000, quota=8_000_000, unused_since=time.time())
        while piece := wire.recv(1 << 20):
            got += piece
    assert got.partition(b"\r\n\r\n")[2].count(files["large"]) == 1
    wait_until(lambda: downloads(front) == before, 10, "the download is over")
    # It was used until now; somewhat later it may go.
    assert front.store.carts.evict_one(hungry, unused_since=time.time() - 60) is None
    assert front.store.carts.evict_one(hungry, unused_since=time.time() + 1) == cart.job.id
    assert front.ask("GET", "/kept").status == 404
    for uid, stored in (("fly", False), ("stored", True)):
        posted(front, uid, FILES, bundle=stored)
        filled(front, uid, FILES)


def test_a_client_that_goes_at_once_lets_the_cart_go(front: Front) -> None:
    for _ in range(20):
        with socket.create_connection((front.host, front.port), timeout=10) as wire:
            wire.sendall(b"GET /fly HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert wire.recv(12) == b"HTTP/1.1 200"
    wait_until(lambda: downloads(front) == 0, 20, "all of them are over")


def test_leases_are_renewed_for_all_downloads_together(front: Front) -> None:
    carts = front.store.carts
    wait_until(lambda: downloads(front) == 0, 20, "nothing is under way")
    ours = lasting.Downloads(carts)
    job = newest(front, "fly").job.id
    numbers = [ours.begin(job) for _ in range(3)]
    assert None not in numbers and ours.count == 3
    with front.store.database.write() as connection:
        connection.exec_driver_sql("update cart_downloads set until = 5")
    ours.renew()
    with front.store.database.read() as connection:
        rows = connection.exec_driver_sql("select until from cart_downloads").all()
    assert len(rows) == 3 and all(row.until > time.time() for row in rows)
    for number in numbers:
        assert number is not None
        ours.end(number)
    assert (downloads(front), ours.count) == (0, 0)
    assert ours.begin("0" * 32) is None


@pytest.mark.parametrize("stored", [False, True])
def test_a_bag_is_one_to_whoever_checks_bags(front: Front, stored: bool, tmp_path: Path) -> None:
    posted(front, "bag", ODD, layout="bagit", bundle=stored)
    filled(front, "bag", ODD)
    found = extracted(whole(front, "/bag").content, tmp_path / "out")
    assert found["bagit.txt"] == b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
    assert f"Payload-Oxum: {sum(map(len, ODD.values()))}.{len(ODD)}\n".encode() in found["bag-info.txt"]
    assert {name.removeprefix("data/") for name in found if name.startswith("data/")} == set(ODD)
    for manifest in ("manifest-md5.txt", "tagmanifest-md5.txt"):
        for line in found[manifest].decode().splitlines():
            digest, _, name = line.partition("  ")
            name = name.replace("%0A", "\n").replace("%25", "%")
            assert hashlib.md5(found[name]).hexdigest() == digest
    assert found["manifest-md5.txt"].count(b"\n") == len(ODD)
    assert found["tagmanifest-md5.txt"].count(b"\n") == 3


@pytest.mark.parametrize("stored", [False, True])
def test_other_formats_hold_the_same(front: Front, stored: bool) -> None:
    posted(front, "zipped", ODD, format="zip", bundle=stored)
    filled(front, "zipped", ODD)
    answer = front.ask("GET", "/zipped")
    assert ("content-length" in answer.headers) == stored
    assert answer.headers["content-disposition"].rstrip('"').endswith(".zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
        assert opened.testzip() is None
        found = {name.partition("/")[2]: opened.read(name) for name in opened.namelist()}
    assert found.pop("manifest-md5.txt").count(b"\n") == len(ODD)
    assert found == ODD
    posted(front, "packed", ODD, format="tar.zst", bundle=stored)
    filled(front, "packed", ODD)
    packed = front.ask("GET", "/packed?filename=p.tar.zst")
    assert packed.headers["content-disposition"].rstrip('"').endswith("p.tar.zst")
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(packed.content)
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        assert len(tar.getnames()) == len(ODD) + 1
        assert {name.partition("/")[0] for name in tar.getnames()} == {"packed" if stored else "p"}
    # What cannot be known before has no ranges.
    part = front.ask("GET", "/packed", headers={"Range": "bytes=5-9"})
    assert part.status == (206 if stored else 200)
