"""Check every file of a lake; see `run`."""
