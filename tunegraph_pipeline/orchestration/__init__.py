"""Everything that knows Dagster: assets, checks, jobs, schedules, partitions and resources.

An asset reads, calls one pure function of the folders below, writes and reports metadata. `build.py`
assembles them; nothing heavy is imported here.
"""

import warnings

# Said for each asset and sensor at every start. That Dagster may change them is met by pinning its version.
warnings.filterwarnings("ignore", r"Parameter `\w+` of .* is currently in (beta|preview)")
