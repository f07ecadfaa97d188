"""Telling workers of jobs by a message broker: what is said there, and who says it. Never claims or does a job."""
