"""Who liked what, as arrays: the id map, the split, the like graph and the co-like matrix.

Pure functions over frames and arrays. Nothing here depends on lakes, models or Dagster.
"""
