"""The worker: claims jobs, keeps its claims alive, tries again, tells of their end."""
