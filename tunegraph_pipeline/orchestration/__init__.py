"""Everything that knows Dagster: assets, checks, jobs, schedules, partitions and resources.

An asset reads, calls one pure function of the folders below, writes and reports metadata. `build.py`
assembles them; nothing is imported here.
"""
