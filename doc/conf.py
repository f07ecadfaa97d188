"""How Sphinx builds the documentation: `sphinx-build -W -b html doc doc/_build/html`."""

from importlib import metadata

project = "MiStaMover"
author = "The MiStaMover developers"
copyright = f"2026, {author}"
release = metadata.version("mistamover")
version = ".".join(release.split(".")[:2])

extensions: list[str] = []
exclude_patterns = ["_build", "changes"]
nitpicky = True
smartquotes = False
# Most examples are INI files, transcripts and layouts: what has no language said is not taken for Python.
highlight_language = "text"

html_theme = "furo"
html_title = f"MiStaMover {version}"
