"""Listening data as MetaBrainz publishes it: ListenBrainz's dumps and MusicBrainz's canonical data, invented.

`songs` holds the recordings, how people write them, and which of these mean the same; `listens` says who
plays what and when; `archives` writes both into the folders and files of data.metabrainz.org.
`simulator.dump_server` serves such a folder.
"""
