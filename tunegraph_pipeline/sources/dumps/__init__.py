"""ListenBrainz's dumps, from a mirror to the files of a raw batch.

`mirror` asks a server of files, with retries; `published` says which dumps it has; `archive` reads the tar of
one by ranges; `window` finds the members of the last months; `listens` turns listens into plays and tracks;
`fetch` puts these together for one dump. Which dumps a lake needs, and the day they belong to, is in
`pipeline.dump_days`.
"""
