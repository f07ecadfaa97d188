"""Deliveries: one contract, the ways to reach a target, and the owned ssh connection."""
