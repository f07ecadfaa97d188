"""What the operating system knows about files: names as bytes, identity, leases, digests, safe paths."""
