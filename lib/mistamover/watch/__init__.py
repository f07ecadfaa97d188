"""Arrivals: events as hints, scans as the truth, and the facts about each file that decisions rest on."""
