"""Where users, likes, tracks and audio features come from; each source gives raw batches.

Here: the sources `files` (with `account_export`, `detect_format`, `formats`, `columns`), `spotify`,
`listenbrainz` and `reccobeats`; `crawl` visits their users, with its state in `frontier`, by sessions of
`api_session`. Not here: raw batches on disk (`lake`).
"""
