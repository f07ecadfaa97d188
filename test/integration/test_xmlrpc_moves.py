"""The XML-RPC dialect on the wire: what is moved, by every way of asking for it, and what is said of its end."""

from __future__ import annotations

import hashlib
import socket
import xmlrpc.client
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import legacy_sites as fronts
from legacy_sites import HttpSource, RunningFront, Site
from mistamover.testing.sshd import PrivateSshd


@pytest.fixture
def place(old_site: Site) -> Site:
    (old_site.remote / "in").mkdir(exist_ok=True)
    return old_site


@pytest.fixture
def front(old_front: RunningFront) -> RunningFront:
    return old_front


@pytest.fixture(scope="module")
def source() -> Iterator[HttpSource]:
    with HttpSource() as server:
        server.files["/a.txt"] = b"first"
        server.files["/b/b.bin"] = b"second \x00\xff" * 1000
        server.files["/slow/c.bin"] = b"x" * 2000
        yield server


@pytest.fixture
def scp(sshd: PrivateSshd, place: Site) -> str:
    """The beginning of URLs at the far side, as clients write them: without a port."""
    return f"scp://{sshd.user}@{sshd.host}{place.remote}"


def moved(front: RunningFront, *parameters: Any) -> dict[str, str]:
    """Given the parameters of a move, ask for it, and return the last that is said of it."""
    with front.proxy() as proxy:
        struct: Any = proxy.move(*parameters)
        assert struct["status"] in ("PENDING", "IN_PROGRESS"), struct
        return ended(proxy, struct["id"])


def ended(proxy: xmlrpc.client.ServerProxy, identity: str) -> dict[str, str]:
    def last() -> dict[str, str] | None:
        struct: Any = proxy.check_move_status(identity)
        assert struct["status"] in ("PENDING", "IN_PROGRESS", "COMPLETED", "FAILED"), struct
        return struct if struct["status"] in ("COMPLETED", "FAILED") else None

    found: dict[str, str] = fronts.until(last)
    return found


def completed(struct: dict[str, str]) -> str:
    assert struct == {"status": "COMPLETED", "id": struct["id"]}
    return struct["id"]


# ---- URLs ----


def test_from_http_to_a_new_name(front: RunningFront, place: Site, source: HttpSource, scp: str) -> None:
    completed(moved(front, f"{source.url}/a.txt", f"{scp}/in/name-1.txt"))
    assert (place.remote / "in/name-1.txt").read_bytes() == b"first"


def test_what_is_there_is_replaced_as_scp_did(front: RunningFront, place: Site, source: HttpSource, scp: str) -> None:
    (place.remote / "in/old.txt").write_bytes(b"what was imported last year")
    completed(moved(front, f"{source.url}/a.txt", f"{scp}/in/old.txt"))
    assert (place.remote / "in/old.txt").read_bytes() == b"first"


def test_from_http_into_a_directory_that_is_there(
    front: RunningFront, place: Site, source: HttpSource, scp: str
) -> None:
    (place.remote / "in/there").mkdir()
    completed(moved(front, f"{source.url}/a.txt", f"{scp}/in/there"))
    assert (place.remote / "in/there/a.txt").read_bytes() == b"first"


@pytest.mark.parametrize(
    ("destination", "lands"),
    [
        ("{scp}/in/new-1/", "in/new-1/a.txt"),
        ("{scp}//in//new-2//", "in/new-2/a.txt"),
        ("{scp}", "a.txt"),
        ("{scp}/", "a.txt"),
        ("{scp}/in/with%20blank", "in/with blank"),
        ("swift://hpc1/in/swift/", "in/swift/a.txt"),
        ("swift://hpc1/in/swift-object", "in/swift-object"),
    ],
)
def test_a_directory_is_written_with_a_slash_at_its_end(
    front: RunningFront, place: Site, source: HttpSource, scp: str, destination: str, lands: str
) -> None:
    (place.remote / lands).unlink(missing_ok=True)
    completed(moved(front, f"{source.url}/a.txt", destination.format(scp=scp)))
    assert (place.remote / lands).read_bytes() == b"first"


def test_a_source_may_be_a_directory_or_several_by_a_pattern(front: RunningFront, place: Site, scp: str) -> None:
    (place.remote / "in/many/sub").mkdir(parents=True)
    for name in ("1.nc", "2.nc", "sub/3.nc"):
        (place.remote / "in/many" / name).write_bytes(name.encode())
    completed(moved(front, f"{scp}/in/many", f"{scp}/in/whole/"))
    assert (place.remote / "in/whole/many/sub/3.nc").read_bytes() == b"sub/3.nc"
    completed(moved(front, f"{scp}/in/many/*.nc", f"{scp}/in/some/"))
    assert sorted(path.name for path in (place.remote / "in/some").iterdir()) == ["1.nc", "2.nc"]


def test_several_into_a_directory(front: RunningFront, place: Site, source: HttpSource, scp: str) -> None:
    completed(moved(front, [f"{source.url}/a.txt", f"{source.url}/b/b.bin"], f"{scp}/in/several"))
    assert (place.remote / "in/several/a.txt").read_bytes() == b"first"
    assert (place.remote / "in/several/b.bin").read_bytes() == source.files["/b/b.bin"]


def test_a_move_keeps_its_source(front: RunningFront, place: Site, scp: str) -> None:
    (place.remote / "in/kept.txt").write_bytes(b"kept")
    completed(moved(front, f"{scp}/in/kept.txt", f"{scp}/in/copy-of-kept.txt"))
    assert (place.remote / "in/kept.txt").read_bytes() == b"kept"
    assert (place.remote / "in/copy-of-kept.txt").read_bytes() == b"kept"


@pytest.mark.parametrize("how", ["third argument", "in the destination"])
def test_zipped(front: RunningFront, place: Site, source: HttpSource, scp: str, how: str) -> None:
    urls = [f"{source.url}/a.txt", f"{source.url}/b/b.bin"]
    if how == "third argument":
        directory = "in/zip-3"
        struct = moved(front, urls, f"{scp}/{directory}", True)
    else:
        directory = "in/zip-d"
        sources = [{"type": "url", "url": url} for url in urls]
        to = {"host": "hpc1", "path": directory, "zip": True}
        struct = moved(front, {"type": "mixed", "sources": sources}, to)
    identity = completed(struct)
    assert [path.name for path in (place.remote / directory).iterdir()] == [f"move-job-{identity}.zip"]
    with zipfile.ZipFile(place.remote / directory / f"move-job-{identity}.zip") as package:
        assert sorted(package.namelist()) == ["data/a.txt", "data/b.bin", "manifest-md5.txt"]
        lines = package.read("manifest-md5.txt").decode().splitlines()
        for name in ("data/a.txt", "data/b.bin"):
            assert f"{hashlib.md5(package.read(name)).hexdigest()} {name}" in lines


# ---- structs ----


def test_structs(front: RunningFront, place: Site, source: HttpSource) -> None:
    (place.local / "mine.txt").write_bytes(b"mine")
    completed(moved(front, {"type": "url", "url": f"{source.url}/a.txt"}, {"host": "hpc1", "path": "in/struct.txt"}))
    assert (place.remote / "in/struct.txt").read_bytes() == b"first"
    scp_source = {"type": "scp", "host": "localhost", "path": "mine.txt"}
    completed(moved(front, scp_source, {"host": "hpc1", "path": f"{place.remote}/in/absolute.txt", "zip": False}))
    assert (place.remote / "in/absolute.txt").read_bytes() == b"mine"
    mixed = {"type": "mixed", "sources": [scp_source, {"type": "url", "url": f"{source.url}/a.txt"}]}
    completed(moved(front, mixed, {"host": "hpc1", "path": "in/mixed"}))
    assert sorted(path.name for path in (place.remote / "in/mixed").iterdir()) == ["a.txt", "mine.txt"]


def test_the_destination_first(front: RunningFront, place: Site, source: HttpSource) -> None:
    completed(moved(front, {"host": "hpc1", "path": "in/first.txt"}, {"type": "url", "id": f"{source.url}/a.txt"}))
    assert (place.remote / "in/first.txt").read_bytes() == b"first"


# ---- failures ----


def test_the_words_of_the_system_stay_in_a_reason(front: RunningFront, scp: str) -> None:
    struct = moved(front, "http://no-such-host.invalid/x", f"{scp}/in/never")
    with pytest.raises(socket.gaierror) as caught:
        socket.getaddrinfo("no-such-host.invalid", 80)
    assert struct["status"] == "FAILED"
    assert struct["reason"].startswith(f"Move has failed for job with id {struct['id']}. Reason: ")
    assert str(caught.value) in struct["reason"]
    # Nobody else has to wait for a host that does not exist.
    assert not [name for name in front.store.claims.circuits() if "no-such-host" in name]


def test_what_is_not_there(front: RunningFront, place: Site, source: HttpSource, scp: str) -> None:
    struct = moved(front, f"{source.url}/nothing", f"{scp}/in/nothing")
    assert (struct["status"], "404" in struct["reason"]) == ("FAILED", True)
    assert not (place.remote / "in/nothing").exists()
    # What failed can be asked for as often as one likes.
    with front.proxy() as proxy:
        assert proxy.check_move_status(struct["id"]) == struct


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"type": "url", "url": "{source}/nothing"}, "Could not download from URL {source}/nothing. Reason: "),
        (
            {"type": "scp", "host": "localhost", "path": "nothing"},
            "Could not download from remote SCP source localhost. Reason: ",
        ),
    ],
    ids=["url", "scp"],
)
def test_a_download_that_fails_has_words_of_its_own_in_structs(
    front: RunningFront, source: HttpSource, kind: dict[str, str], words: str
) -> None:
    kind = {key: value.format(source=source.url) for key, value in kind.items()}
    struct = moved(front, kind, {"host": "hpc1", "path": "in/never"})
    assert (struct["status"], struct["reason"].startswith(words.format(source=source.url))) == ("FAILED", True), struct


@pytest.mark.parametrize("zipped", [False, True])
def test_of_several_the_one_that_failed_is_named(front: RunningFront, source: HttpSource, zipped: bool) -> None:
    sources = [{"type": "url", "url": f"{source.url}/a.txt"}, {"type": "scp", "host": "localhost", "path": "nothing"}]
    to = {"host": "hpc1", "path": f"in/never-{zipped}", "zip": zipped}
    struct = moved(front, {"type": "mixed", "sources": sources}, to)
    assert struct["reason"].startswith("Could not download from remote SCP source localhost. Reason: "), struct


def test_a_destination_that_fails_has_words_of_its_own_in_structs(
    front: RunningFront, place: Site, source: HttpSource
) -> None:
    (place.remote / "in/taken.txt").write_bytes(b"other")
    below = {"host": "hpc1", "path": "in/taken.txt/below"}
    struct = moved(front, {"type": "url", "url": f"{source.url}/a.txt"}, below)
    assert struct["status"] == "FAILED"
    assert struct["reason"].startswith("Unable to send to destination. Reason: ")
    assert (place.remote / "in/taken.txt").read_bytes() == b"other"


def test_cancelled_in_the_middle_of_a_file(front: RunningFront, place: Site, source: HttpSource, scp: str) -> None:
    with front.proxy() as proxy:
        struct: Any = proxy.move(f"{source.url}/slow/c.bin", f"{scp}/in/slow")
        fronts.until(lambda: any(path == "/slow/c.bin" for path, _ in source.seen))
        proxy.cancel(struct["id"])
        last = ended(proxy, struct["id"])
    assert last["reason"] == f"Move has failed for job with id {struct['id']}. Reason: cancelled"
    assert not [path for path in (place.remote / "in").rglob("*slow*") if path.exists()]


def test_what_is_completed_can_be_forgotten_as_it_was(tmp_path: Path, source: HttpSource) -> None:
    place = fronts.site(tmp_path / "site")
    with fronts.running(tmp_path / "front", place.endpoints, worker=True, xmlrpc_forget_completed=True) as front:
        struct = moved(front, {"type": "url", "url": f"{source.url}/a.txt"}, {"host": "localhost", "path": "a.txt"})
        with front.proxy() as proxy:
            assert proxy.check_move_status(completed(struct)) == {"status": "REJECTED", "reason": "Job does not exist"}


def test_occurrences_of_the_ala(tmp_path: Path, source: HttpSource) -> None:
    lsid = "urn:lsid:biodiversity.org.au:afd.taxon:31a9"
    source.files["/occurrences"] = (
        b"species,decimalLongitude,decimalLatitude,coordinateUncertaintyInMeters,eventDate,year,month\n"
        b"Phascolarctos cinereus,146.1,-36.2,10,2001-05-01,2001,5\n"
    )
    source.files["/metadata"] = b'{"scientificName": "Phascolarctos cinereus", "commonName": "Koala"}'
    urls = {
        "ala_occurrence_url": f"{source.url}/occurrences?q=${{lsid}}",
        "ala_metadata_url": f"{source.url}/metadata?q=${{lsid}}",
        "ala_sleep_time": 0,
        "ala_destination": "localhost/ala",
    }
    place = fronts.site(tmp_path / "site")
    plone = {"url": f"file://{place.local}/plone"}
    (place.local / "plone").mkdir()
    with fronts.running(tmp_path / "front", {**place.endpoints, "plone": plone}, worker=True, **urls) as front:
        # As the site did in 2013, and as it did before.
        completed(moved(front, {"type": "ala", "lsid": lsid}, {"host": "plone", "path": "species-1"}))
        files = ["ala_dataset.json", "ala_metadata.json", "ala_occurrence.csv"]
        assert sorted(path.name for path in (place.local / "plone/species-1").iterdir()) == files
        with front.proxy() as proxy:
            struct: Any = proxy.pullOccurrenceFromALA(lsid)
            assert struct["status"] == "PENDING", struct
            said: set[str] = set()

            def last() -> bool:
                checked: Any = proxy.checkALAJobStatus(struct["id"])
                said.add(checked["status"])
                return checked["status"] not in ("PENDING", "DOWNLOADING")

            fronts.until(last)
        assert said <= {"PENDING", "DOWNLOADING", "COMPLETED"}
        assert sorted(path.name for path in (place.local / "ala").iterdir()) == files
        source.files["/occurrences"] = b""
        struct = moved(front, {"type": "ala", "lsid": lsid}, {"host": "plone", "path": "species-2"})
        assert struct["reason"].startswith(f"Could not download LSID {lsid} from ALA. Reason: ")
