"""The service: the query over HTTP, and the page and the Lambda beside it.

`app` assembles what one worker answers with, `run` starts the workers, `routes` is the list of what can be
asked and `schemas` its exact shape. `recommend/` does the work; nothing here trains, crawls or writes to the
lake, but for the feedback that `feedback_writer` keeps until a refresh collects it. Nothing is imported here,
so that the Lambda handler stays numpy alone.
"""
