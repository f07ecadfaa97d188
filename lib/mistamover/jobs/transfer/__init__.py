"""How the files of jobs move: places, copies that are proven, packages, importers. Knows no worker."""
