"""A music world that can be played day by day, and servers in the shapes of the real services.

`world` makes the songs, listeners and lists, `names` and `genres` hold its words, `api` answers as Spotify
does, `server` puts that on a port with faults to order, and `source` crawls it. Nothing is imported here.
"""
