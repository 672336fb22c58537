"""The daily partitions. One definition, shared by every asset that is cut by day."""

from dagster import DailyPartitionsDefinition

from tunegraph_pipeline.lake.lake import FIRST_DAY

# end_offset=1: today is a partition, since an import made today is received today.
DAILY = DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat(), timezone="UTC", end_offset=1)
