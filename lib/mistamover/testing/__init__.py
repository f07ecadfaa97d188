"""Private real servers and a demonstration, for tests and the quickstart; no production code imports it."""
