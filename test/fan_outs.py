"""Streams with several targets, for tests and the benchmark."""

from __future__ import annotations

from pathlib import Path

from support import Site, Stream, contents


def fan_out(site: Site, *names: str, extra: dict[str, dict[str, object]] | None = None, **sections: object) -> Stream:
    """Given a site, the names of targets and what their subsections say beside, make a stream that sends to all."""
    stream = site.add("one", outgoing={"targets": " ".join(names)}, **sections)  # type: ignore[arg-type]
    lines = stream.file.read_text().splitlines()
    at = lines.index("[outgoing]") + 1
    end = next((i for i in range(at, len(lines)) if lines[i].startswith("[")), len(lines))
    subsections = []
    for name in names:
        directory = target(site, name)
        directory.mkdir(exist_ok=True)
        values = {"target_dir": directory, **(extra or {}).get(name, {})}
        subsections += [f"[[{name}]]", *(f"{key} = {value}" for key, value in values.items())]
    stream.file.chmod(0o600)
    stream.file.write_text("\n".join([*lines[:end], *subsections, *lines[end:]]) + "\n")
    return stream


def target(site: Site, name: str) -> Path:
    """Return the directory of a target."""
    return site.directory / "remote" / name


def there(site: Site, name: str) -> dict[bytes, bytes]:
    """Return what lies at a target, without our own place."""
    return {each: data for each, data in contents(target(site, name)).items() if not each.startswith(b".mistamover/")}
