"""The assets, a module for each group: `sources`, `graph`, `model` and `serving`."""
