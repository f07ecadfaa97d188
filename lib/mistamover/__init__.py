"""MiStaMover: mirror, stage and move data."""

__version__ = "1.0.0.dev0"
