"""The importer of species occurrences, against an atlas of our own."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_sites import REQUEST, JobSite, destination, spec
from mistamover.errors import JobRefused
from mistamover.jobs.model import Op
from web_servers import WebSite, web_site

HEADER = "Scientific Name,Longitude,Latitude,Coordinate Uncertainty in Metres,Event Date,Year,Month,Zero Coordinates"
GOOD = "Macropus rufus,135.5,-25.25,100,1999-05-01,1999,5,false"
LSID = "urn:lsid:biodiversity.org.au:afd.taxon:31a9b8b8-4e8f-4343-a15f-2ed24e0bf1ae"


def zipped(*rows: str, citation: str = "") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("data.csv", "\n".join([HEADER, *rows, ""]))
        if citation:
            archive.writestr("citation.csv", citation)
    return made.getvalue()


@pytest.fixture
def atlas() -> Iterator[WebSite]:
    with web_site() as server:
        server.files["/occurrences"] = zipped(GOOD, "x,,1,,,,,", GOOD.replace("false", "TRUE"), citation="who,when\n")
        server.files[f"/ws/species/{LSID}.json"] = b'{"name": "Macropus rufus"}'
        server.answer = lambda path, body: json.dumps(
            {"searchDTOList": [{"guid": each} for each in json.loads(body)]}
        ).encode()
        yield server


@pytest.fixture
def site(tmp_path: Path, atlas: WebSite) -> Iterator[JobSite]:
    front = {
        "allow_private_addresses": True,
        "ala_occurrence_url": f"{atlas.url}/occurrences?q=lsid:${{lsid}}",
        "ala_metadata_url": f"{atlas.url}/ws/species/${{lsid}}.json",
        "ala_sleep_time": 0.0,
    }
    made = JobSite(tmp_path, front=front)
    yield made
    made.close()


def test_a_species_comes_as_three_files(site: JobSite, atlas: WebSite) -> None:
    job = site.copy(f"ala://ala?lsid={LSID}", "here:d")
    assert job.op is Op.IMPORT
    assert site.succeed(job).result["files"] == 3
    found = {path.name: path for path in (site.here / "d").iterdir()}
    assert set(found) == {"ala_occurrence.csv", "ala_metadata.json", "ala_dataset.json"}
    assert found["ala_occurrence.csv"].read_text() == (
        "species,lon,lat,uncertainty,date,year,month\nMacropus rufus,135.5,-25.25,100,1999-05-01,1999,5\n"
    )
    said = json.loads(found["ala_dataset.json"].read_text())
    assert (said["num_occurrences"], said["title"]) == (1, "Macropus rufus occurrences")
    assert said["files"][0]["url"] == f"{site.here}/d/ala_occurrence.csv"
    assert said["provenance"]["source"] == "ALA"
    assert atlas.requests[0][0].endswith(f"q=lsid:{LSID.replace(':', '%3A')}")
    assert list((site.settings.directory / "spool").iterdir()) == []
    assert list((site.settings.directory / "scratch").iterdir()) == []


def test_a_query_comes_as_a_zip(site: JobSite, atlas: WebSite) -> None:
    url = f"ala://ala?url={atlas.url}/occurrences&query=lsid:{LSID}&filter=zero&email=a%40b"
    site.succeed(site.copy(url, "here:d/"))
    with zipfile.ZipFile(site.here / "d" / "ala_occurrence.zip") as archive:
        assert archive.namelist() == ["data/ala_occurrence.csv", "data/ala_citation.csv"]
    assert json.loads((site.here / "d" / "ala_metadata.json").read_text()) == [{"guid": LSID}]
    asked = atlas.requests[0][0]
    assert all(part in asked for part in ("qa=zero", "reasonTypeId=4", "sourceTypeId=2002", "email=a%40b"))
    site.succeed(site.copy(f"ala://ala?url={atlas.url}/occurrences&query=qid:123", "here:e/"))
    assert not (site.here / "e" / "ala_metadata.json").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "ALA occurrence file downloaded is empty (zero bytes)"),
        (zipped("x,,,,,,,"), "No valid occurrences left."),
        (zipped(GOOD.replace("135.5", "235.5")), "not on the earth"),
        (b"PK\x03\x04 no zip at all", "has no columns"),
        (b"a,b\n1,2\n", "has no columns"),
    ],
)
def test_what_is_of_no_use_fails_the_import(site: JobSite, atlas: WebSite, content: bytes, reason: str) -> None:
    atlas.files["/occurrences"] = content
    assert reason in site.fail(site.copy(f"ala://ala?lsid={LSID}", "here:d"))
    assert not (site.here / "d").exists()


def test_a_source_that_names_nothing_is_refused(site: JobSite) -> None:
    for url in ("ala://ala", "ala://ala?x=1", "ala://ala?lsid="):
        with pytest.raises(JobRefused) as refusal:
            site.copy(url, "here:d")
        assert refusal.value.code == "bad-url"


def test_a_species_and_a_file_may_come_in_one_job(site: JobSite, atlas: WebSite) -> None:
    atlas.files["/x.txt"] = b"x"
    found = [spec(f"ala://ala?lsid={LSID}"), spec(f"{atlas.url}/x.txt")]
    site.succeed(site.desk.copy(REQUEST, found, destination("here:d"))[0])
    assert len(list((site.here / "d").iterdir())) == 4


def test_an_atlas_in_a_private_network_is_not_asked(site: JobSite, atlas: WebSite) -> None:
    site.change(allow_private_addresses=False)
    assert "private network" in site.fail(site.copy(f"ala://ala?lsid={LSID}", "here:d"))
    assert atlas.requests == []
