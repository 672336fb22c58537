"""What `dagster dev` and `dg` load: assembly, nothing else."""

from tunegraph_pipeline.orchestration.build import build_definitions

defs = build_definitions()
