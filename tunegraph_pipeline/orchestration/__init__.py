"""Everything that knows Dagster: assets, checks, jobs, schedules, partitions and resources.

An asset runs one stage of `pipeline` and reports its metadata. `build.py` assembles them; nothing heavy is
imported here.
"""

import warnings

# Dagster would warn for each asset and sensor at every start; its version is pinned.
warnings.filterwarnings("ignore", r"(Parameter|Class|Function) `\w+` .*is currently in (beta|preview)")
