"""Encoders: what is known of a track, turned into numbers, and the networks that place tracks in a space."""
