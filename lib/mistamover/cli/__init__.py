"""The command line: one module per group of commands; prints, and chooses the exit status."""
