"""The assets, a module a stage: `sources`, `graph`, `model`, `serving`; and `generations` beside them.

Each reads from top to bottom.
"""
