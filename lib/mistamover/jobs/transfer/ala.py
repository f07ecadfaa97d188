"""Occurrences of species from the Atlas of Living Australia, as files: the importer of URLs of the scheme `ala`.

`ala://ala?lsid=LSID` gives the occurrences as a CSV file; `ala://ala?url=BIOCACHE&query=QUERY` (with `filter` and
`email`, if wanted) gives them in a zip.  Both come with what is known of the species, and with a description of it all.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from mistamover.config.serving import FrontSettings
from mistamover.errors import JobRefused
from mistamover.files.zips import ZipWriter
from mistamover.jobs.importers import Bench, Made
from mistamover.jobs.transfer.faults import Trouble
from mistamover.model import FaultClass

OCCURRENCES = (
    "https://biocache.ala.org.au/ws/occurrences/index/download?q=lsid:${lsid}&reasonTypeId=4&sourceTypeId=2002"
    "&fields=decimalLongitude,decimalLatitude,coordinateUncertaintyInMeters.p,eventDate.p,year.p,month.p,species.p"
)
METADATA = "https://bie.ala.org.au/ws/species/${lsid}.json"

_FIELDS = "decimalLongitude,decimalLatitude,coordinateUncertaintyInMeters.p,eventDate.p,year.p,month.p,species.p"
_HEADER = ("species", "lon", "lat", "uncertainty", "date", "year", "month")

#: How their columns are called, without blanks and signs, the best first.
_COLUMNS: Mapping[str, Sequence[str]] = {
    "species": ("species", "speciesp", "speciesmatched", "scientificname", "scientificnamep", "taxonname"),
    "lon": ("lon", "longitude", "decimallongitude", "longitudep", "decimallongitudep", "longitudeprocessed"),
    "lat": ("lat", "latitude", "decimallatitude", "latitudep", "decimallatitudep", "latitudeprocessed"),
    "uncertainty": ("uncertainty", "coordinateuncertaintyinmeters", "coordinateuncertaintyinmetersp",
                    "coordinateuncertaintyinmetres", "coordinateuncertaintyinmetresprocessed"),
    "date": ("date", "eventdate", "eventdatep", "eventdateprocessed"),
    "year": ("year", "yearp", "yearprocessed"),
    "month": ("month", "monthp", "monthprocessed"),
}  # fmt: skip

#: Names of species that are asked for at once.
_BLOCK = 100

#: Rows between two looks at whether the job is to end.
_ROWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What a URL asks for."""

    occurrences: str
    lsids: Sequence[str]
    zipped: bool


class Ala:
    """See `importers.Importer`."""

    def check(self, url: str) -> None:
        """See `Importer.check`."""
        _request(url, OCCURRENCES)

    def pause(self, front: FrontSettings) -> float:
        """See `Importer.pause`."""
        return front.ala_sleep_time

    def make(self, url: str, bench: Bench) -> Sequence[Made]:
        """See `Importer.make`."""
        wanted = _request(url, bench.front.ala_occurrence_url or OCCURRENCES)
        download = bench.directory / "download"
        bench.fetch(wanted.occurrences, download)
        if not download.stat().st_size:
            raise _failed("ALA occurrence file downloaded is empty (zero bytes)")
        table = bench.directory / "ala_occurrence.csv"
        citation = bench.directory / "ala_citation.csv"
        species, rows = _cleaned(download, table, citation, bench)
        metadata = _metadata(wanted, bench)
        made: list[tuple[Path, str]] = [(table, "occurrence")]
        if wanted.zipped:
            made = [(_zip(bench.directory, table, citation), "occurrence")]
        if metadata is not None:
            made.append((metadata, "attribution"))
        description = _description(made, species, rows, wanted, bench)
        return [Made(path=path, name=path.name) for path, _ in [*made, (description, "")]]


def importer() -> Ala:
    """Return the importer."""
    return Ala()


def _request(url: str, occurrences: str) -> _Request:
    given = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
    if "query" in given and "url" in given:
        query = {
            "qa": given.get("filter", ""),
            "q": given["query"],
            "fields": _FIELDS,
            "email": given.get("email", ""),
            "reasonTypeId": "4",
            "sourceTypeId": "2002",
        }
        base, mark = given["url"], "&" if "?" in given["url"] else "?"
        kind, _, value = given["query"].partition(":")
        lsids = re.findall(r"[^\s()\"]+", value.replace(" OR ", " ")) if kind == "lsid" else []
        return _Request(occurrences=f"{base}{mark}{urlencode(query)}", lsids=lsids, zipped=True)
    if not given.get("lsid"):
        words = "a source of ALA needs ?lsid=LSID, or ?url=URL&query=QUERY"
        raise JobRefused("bad-url", words)
    lsid = given["lsid"]
    return _Request(occurrences=occurrences.replace("${lsid}", quote(lsid)), lsids=[lsid], zipped=False)


# -- the table --------------------------------------------------------------------------------


def _cleaned(download: Path, table: Path, citation: Path, bench: Bench) -> tuple[list[str], int]:
    """Write what is of use in a download as a table; return the species in it, and how many rows there are."""
    rows = 0
    species: dict[str, None] = {}
    with contextlib.ExitStack() as stack:
        source = _rows(download, citation, stack)
        columns = _columns(next(source, []))
        writer = csv.writer(stack.enter_context(table.open("x", newline="", encoding="utf-8")), lineterminator="\n")
        writer.writerow(_HEADER)
        for number, row in enumerate(source):
            if number % _ROWS == 0:
                bench.go_on()
            kept = _kept(row, columns)
            if kept is not None:
                writer.writerow(kept)
                rows += 1
                species[kept[0]] = None
    if not rows:
        raise _failed("No valid occurrences left.")
    return list(filter(None, species)), rows


def _rows(download: Path, citation: Path, stack: contextlib.ExitStack) -> Iterator[list[str]]:
    """Yield the rows of a download, which is a zip or a table."""
    if zipfile.is_zipfile(download):
        try:
            archive = stack.enter_context(zipfile.ZipFile(download))
            names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
            about = next((name for name in names if "citation" in name.lower()), None)
            data = next((name for name in names if "data" in name.lower().rpartition("/")[2]), None)
            data = data or next((name for name in names if name != about), None)
            if data is None:
                raise _failed("the download of ALA holds no table")
            if about is not None:
                citation.write_bytes(archive.read(about))
            raw = stack.enter_context(archive.open(data))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise _failed(f"the download of ALA cannot be read: {error}") from error
        text: Iterable[str] = io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline="")
    else:
        text = stack.enter_context(download.open(encoding="utf-8", errors="replace", newline=""))
    try:
        yield from csv.reader(text)
    except (csv.Error, zipfile.BadZipFile) as error:
        raise _failed(f"the table of ALA cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class _Columns:
    wanted: Mapping[str, int]
    flags: Sequence[int]


def _columns(header: Sequence[str]) -> _Columns:
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]
    found = {}
    for name, spellings in _COLUMNS.items():
        index = next((plain.index(spelling) for spelling in spellings if spelling in plain), None)
        if index is not None:
            found[name] = index
    if "lon" not in found or "lat" not in found:
        raise _failed("the table of ALA has no columns of longitude and latitude")
    return _Columns(found, [number for number in range(len(plain)) if number not in found.values()])


def _kept(row: Sequence[str], columns: _Columns) -> list[str] | None:
    """Return a row as it is to be, or None if it is of no use."""

    def value(name: str) -> str:
        index = columns.wanted.get(name, len(row))
        return row[index].strip() if index < len(row) else ""

    # What is left are marks of what is doubtful.
    if any(row[number].strip().lower() == "true" for number in columns.flags if number < len(row)):
        return None
    try:
        longitude, latitude = float(value("lon")), float(value("lat"))
    except ValueError:
        return None
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        raise _failed(f"a coordinate of ALA is not on the earth: {value('lon')}, {value('lat')}")
    return [value(name) for name in _HEADER]


# -- what is said about it --------------------------------------------------------------------


def _metadata(wanted: _Request, bench: Bench) -> Path | None:
    """Write what is known of the species; return the file, None if it is not known which they are."""
    template = bench.front.ala_metadata_url or METADATA
    path = bench.directory / "ala_metadata.json"
    if not wanted.lsids:
        return None
    if not wanted.zipped:
        bench.fetch(template.replace("${lsid}", quote(wanted.lsids[0])), path)
        return path
    lookup = template.partition("/species/")[0] + "/species/guids/bulklookup"
    found: list[object] = []
    for begin in range(0, len(wanted.lsids), _BLOCK):
        body = json.dumps(list(wanted.lsids[begin : begin + _BLOCK])).encode()
        answer = bench.post(lookup, body, {"Content-Type": "application/json", "Accept": "application/json"})
        try:
            said = json.loads(answer)
        except ValueError as error:
            raise _failed("what ALA says of the species is no JSON") from error
        found += said.get("searchDTOList", [said]) if isinstance(said, dict) else said
    path.write_text(json.dumps(found))
    return path


def _description(
    made: Sequence[tuple[Path, str]], species: Sequence[str], rows: int, wanted: _Request, bench: Bench
) -> Path:
    names = ", ".join(species[:5]) + (" and others" if len(species) > 5 else "") or "Unknown species"
    today = datetime.now(UTC).strftime("%d/%m/%Y")
    said = {
        "title": f"{names} occurrences",
        "description": f"Observed occurrences of {names}, imported from ALA on {today}",
        "num_occurrences": rows,
        "files": [
            {"url": bench.where(path.name), "dataset_type": kind, "size": path.stat().st_size} for path, kind in made
        ],
        "provenance": {"source": "ALA", "url": wanted.occurrences, "source_date": today},
    }
    path = bench.directory / "ala_dataset.json"
    path.write_text(json.dumps(said, indent=2))
    return path


def _zip(directory: Path, table: Path, citation: Path) -> Path:
    path = directory / "ala_occurrence.zip"
    with path.open("xb") as file, ZipWriter(file) as writer:
        for member in (table, citation):
            if member.exists():
                with member.open("rb") as content:
                    pieces = iter(lambda: content.read(1 << 20), b"")
                    writer.file(b"data/" + os.fsencode(member.name), member.stat(), pieces)
    return path


def _failed(words: str) -> Trouble:
    return Trouble(FaultClass.SOURCE, words, final=True)
