"""The outside world, one file a system: its words to ours and back, and where we must, out to it."""
