"""Carts: how they are asked for, what their bundles are made of, and where they lie in the volume."""
