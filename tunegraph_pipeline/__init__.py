"""TuneGraph: liked lists in, recommendations out, refreshed every day by Dagster.

Nothing is imported here, so that any one folder can be used without paying for the others.
"""
