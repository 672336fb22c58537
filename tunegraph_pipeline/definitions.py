"""What `dagster dev` and `dg` load: assembly, nothing else."""

from tunegraph_pipeline.orchestration.automation import schedule_settings
from tunegraph_pipeline.orchestration.build import build_definitions
from tunegraph_pipeline.orchestration.resources import lake_folder

defs = build_definitions(times=schedule_settings(lake_folder()))
