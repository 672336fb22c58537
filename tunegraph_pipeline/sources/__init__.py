"""Where users, likes, tracks and audio features come from: each turns what it reads into raw batches.

Here: one module a source (`files`, the user's own files, with `formats` and `columns` below it; `simulator`,
a made-up music world). Not here: what becomes of a batch; `lake.raw` keeps it, the daily tables are made of
it.
"""
