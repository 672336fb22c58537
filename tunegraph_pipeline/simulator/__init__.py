"""A simulated music world, played day by day, and servers with the APIs of real services.

The world: `world` shows it on any day, from the songs in `catalogue` and the users and likes in `listeners`;
`names` and `genres` hold its words, `draws` its random draws. Over HTTP: `api` answers with the JSON of
`bodies`; `server` puts it on a port, with `tokens` and `faults`; `source` crawls it.

The listens of ListenBrainz, as files: `dumps` invents and writes them, and `dump_server` serves them.
"""
