"""The disk guard: watches the space on every filesystem in use, and asks those who deliver here to wait."""
