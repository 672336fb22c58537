"""A music world that can be played day by day, and servers in the shapes of the real services.

The world: `world` shows it on any day, from the songs in `catalogue` and the users and likes in `listeners`;
`names` and `genres` hold its words, `draws` its random draws. Over HTTP: `api` answers as the services do,
with the JSON of `bodies`; `server` puts that on a port, with the `tokens` and `faults` of a real service;
`source` crawls it. Nothing is imported here.
"""
