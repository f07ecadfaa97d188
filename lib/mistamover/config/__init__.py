"""Configuration: INI files and environment in, frozen settings or a list of all problems out.

This room imports only `errors`, `model` and configobj; it never imports a room above it.
"""
