"""What `dagster dev` and `dg` load: assembly, nothing else."""

from tunegraph_pipeline.orchestration.build import build_definitions
from tunegraph_pipeline.orchestration.resources import settle_lake

# The runs of this code location, which are processes of their own, get the lake that it shows.
defs = build_definitions(settle_lake())
