"""What a refresh does with a lake, stage by stage, without Dagster.

Here: the stages, their settings, publication, forgetting, retention and verification. Not here: the form of
tables and arrays (`lake`), the algorithms (`graph`, `training`, `recommend`), or runs and schedules
(`orchestration`). Nothing is imported here.
"""
