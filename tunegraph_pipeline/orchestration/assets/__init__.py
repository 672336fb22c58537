"""The assets, a module a stage: `sources`, `graph`, `model`, `serving`. Each reads from top to bottom."""
