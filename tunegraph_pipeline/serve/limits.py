"""The limits of a request.

Here: the limits that the HTTP service and the Lambda function share, and those of the service alone. Not
here: checking them (`schemas`, `middleware`, `aws_lambda.handler`). Only the standard library, because the
Lambda handler imports this.
"""

MOST_BODY_BYTES = 262_144
MOST_HEAD_BYTES = 65_536
"""Of the address and the headers of a request together."""
MOST_LISTED = 2_000
"""Ids in one list of a request."""
MOST_K = 500
"""Songs in one answer, and songs of one artist in it."""
MOST_LOOKED_UP = 200
"""Ids in one query string."""
MOST_MAP_POINTS = 20_000
MOST_MAP_COLUMNS = 100_000
"""Songs of a map that has their positions and genres alone."""
MOST_ARTISTS = 100
"""Artists in one list of a request."""
MOST_BLENDED = 20
"""Lists in one blend,"""
MOST_BLENDED_SONGS = 100
"""and songs in it."""
MOST_MATCHED = 20_000
"""Songs of a list that somebody brings."""
MOST_MISSING = 200
"""Of these that were not found, so many are named."""
MOST_GENRES = 50
"""Genres in one filter."""
