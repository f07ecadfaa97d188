"""What the streams of one agent share on their way to the targets: connections, and the turns of large batches."""
