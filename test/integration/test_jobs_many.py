"""Jobs whose sources are directories or wildcards, and those that arrive as one package."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_sites import REQUEST, JobSite, destination, leftovers, spec, ssh_endpoint
from mistamover.errors import LostClaim
from mistamover.jobs.model import Op, Packaging
from mistamover.jobs.transfer import operations
from mistamover.testing.sshd import PrivateSshd
from web_servers import web_site


@pytest.fixture
def site(tmp_path: Path, sshd: PrivateSshd) -> Iterator[JobSite]:
    made = JobSite(tmp_path, ssh_endpoint("hpc", sshd, tmp_path / "hpc"), front={"allow_private_addresses": True})
    for base in (made.here, tmp_path / "hpc"):
        (base / "run" / "deep" / "er").mkdir(parents=True)
        (base / "run" / "empty").mkdir()
        for number in range(3):
            (base / "run" / f"f{number}.nc").write_bytes(b"%d" % number)
        (base / "run" / "deep" / "er" / "x").write_bytes(b"x")
        (base / "run" / ".hidden").write_bytes(b"h")
        (base / "run" / "link").symlink_to("f0.nc")
        (base / "run" / "out").symlink_to("/etc")
    yield made
    made.close()


def tree(directory: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
        if not path.is_symlink()
    }


WAYS = [("here", "hpc"), ("hpc", "here"), ("here", "tape"), ("hpc", "hpc")]


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_a_directory_is_copied_with_all_that_it_holds(site: JobSite, source: str, target: str) -> None:
    base, there = (Path(site.endpoints.need(name).base) for name in (source, target))
    job = site.succeed(site.copy(f"{source}:run", f"{target}:new/copy"))
    assert tree(there / "new" / "copy") == tree(base / "run")
    assert job.result["files"] == 5
    site.succeed(site.copy(f"{source}:run", f"{target}:new/copy/"))
    assert tree(there / "new" / "copy" / "run") == tree(base / "run")
    assert not leftovers(there)


@pytest.mark.parametrize(("source", "target"), WAYS)
def test_a_directory_is_moved(site: JobSite, source: str, target: str) -> None:
    base, there = (Path(site.endpoints.need(name).base) for name in (source, target))
    before = tree(base / "run")
    (base / "run" / "link").unlink()
    (base / "run" / "out").unlink()
    site.succeed(site.desk.copy(REQUEST, [spec(f"{source}:run")], destination(f"{target}:moved"), op=Op.MOVE)[0])
    assert tree(there / "moved") == before
    assert not (base / "run").exists()


@pytest.mark.parametrize("source", ["here", "hpc"])
def test_wildcards_stand_for_what_is_there(site: JobSite, source: str) -> None:
    site.succeed(site.copy(f"{source}:run/*.nc", "tape:got"))
    assert tree(site.tape / "got") == {f"f{number}.nc": b"%d" % number for number in range(3)}
    site.succeed(site.copy(f"{source}:run/d*/e[q-s]", "tape:more/"))
    assert tree(site.tape / "more") == {"er": None, "er/x": b"x"}
    assert "nothing has such a name" in site.fail(site.copy(f"{source}:run/*.zz", "tape:none"))
    base = Path(site.endpoints.need(source).base)
    (base / "run" / "*.nc").write_bytes(b"star")
    site.succeed(site.copy(f"{source}:run/*.nc", "tape:star"))
    assert (site.tape / "star").read_bytes() == b"star"


def test_a_directory_that_is_cut_off_in_the_middle_goes_where_it_was_going(site: JobSite) -> None:
    job = site.copy("here:run", "hpc:copy")
    done = 0

    def die(seq: int, *_: object) -> None:
        nonlocal done
        done += seq > 2
        if done:
            raise LostClaim("killed")

    site.on_tell = die
    with pytest.raises(LostClaim):
        operations.run(site.claim(job), site.context)
    site.on_tell = lambda *_: None
    site.store.claims.release("w")
    (site.here / "run" / "late").write_bytes(b"late")
    site.succeed(job)
    copied = tree(Path(site.endpoints.need("hpc").base) / "copy")
    assert "run" not in copied
    assert set(tree(site.here / "run")) - set(copied) == {"late"}


def test_a_directory_does_not_go_into_itself_and_has_its_limit(site: JobSite) -> None:
    assert "into itself" in site.fail(site.copy("here:run", "here:run/deep/copy"))
    site.change(max_items=4)
    assert "more than 4" in site.fail(site.copy("here:run", "hpc:copy"))


def test_one_file_that_fails_does_not_keep_the_others_back(site: JobSite) -> None:
    there = Path(site.endpoints.need("hpc").base)
    (there / "copy").mkdir()
    (there / "copy" / "run").mkdir()
    (there / "copy" / "run" / "f1.nc").write_bytes(b"other")
    assert "f1.nc is there already" in site.fail(site.copy("here:run", "hpc:copy"))
    assert (there / "copy" / "run" / "f2.nc").read_bytes() == b"2"
    assert (there / "copy" / "run" / "f1.nc").read_bytes() == b"other"


def packed(site: JobSite, sources: list[str], to: str, packaging: Packaging) -> tuple[str, bytes]:
    found = [spec(source) for source in sources]
    job = site.succeed(site.desk.copy(REQUEST, found, destination(to), packaging=packaging)[0])
    base = Path(site.endpoints.need("hpc").base)
    name = f"move-job-{job.id}.{packaging.value}"
    return name, (base / "out" / name).read_bytes()


def test_a_zip_holds_all_items_and_a_manifest_of_their_hashes(site: JobSite) -> None:
    with web_site() as web:
        web.files["/x.csv"] = b"from the web"
        sources = ["here:run/f0.nc", "hpc:run/f0.nc", f"{web.url}/x.csv", "here:run"]
        (site.here / "run" / "big").write_bytes(os.urandom(2 << 20))
        name, content = packed(site, sources, "hpc:out", Packaging.ZIP)
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    members = {each: archive.read(each) for each in archive.namelist()}
    manifest = members.pop("manifest-md5.txt").decode().splitlines()
    assert {"data/f0.nc", "data/f0-1.nc", "data/x.csv", "data/run/deep/er/x", "data/run/big"} <= set(members)
    expected = [f"{hashlib.md5(data).hexdigest()} {member}" for member, data in members.items()]
    assert manifest == expected
    assert [path.name for path in (Path(site.endpoints.need("hpc").base) / "out").iterdir()] == [name]
    assert not list((site.settings.directory / "scratch").iterdir())


def test_a_tar_holds_all_items_below_one_directory(site: JobSite) -> None:
    _, content = packed(site, ["here:run", "hpc:run/f1.nc"], "hpc:out", Packaging.TAR)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = archive.getnames()
        top = names[0].partition("/")[0]
        assert {f"{top}/run/.hidden", f"{top}/f1.nc", f"{top}/run/deep/er/x"} <= set(names)
        assert archive.extractfile(f"{top}/f1.nc").read() == b"1"  # type: ignore[union-attr]


def test_a_package_that_misses_one_item_is_not_delivered(site: JobSite) -> None:
    job, _ = site.desk.copy(
        REQUEST, [spec("here:run/f0.nc"), spec("here:none")], destination("hpc:out"), packaging=Packaging.ZIP
    )
    assert "no such file" in site.fail(job)
    assert not (Path(site.endpoints.need("hpc").base) / "out").exists()
    assert not list((site.settings.directory / "scratch").iterdir())


def test_a_package_that_was_cut_off_is_made_anew(site: JobSite) -> None:
    job, _ = site.desk.copy(REQUEST, [spec("here:run")], destination("hpc:out"), packaging=Packaging.ZIP)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise LostClaim("killed")

    site.on_tell = count
    with pytest.raises(LostClaim):
        operations.run(site.claim(job), site.context)
    site.on_tell = lambda *_: None
    site.store.claims.release("w")
    site.succeed(job)
    assert not leftovers(Path(site.endpoints.need("hpc").base))
