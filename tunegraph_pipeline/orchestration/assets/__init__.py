"""The assets, a module for each group: `sources`, `graph`, `model`, `serving` and `research`."""
