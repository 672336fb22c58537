"""The command line: `tunegraph …`. Nothing is imported here, so `--help` is quick."""
