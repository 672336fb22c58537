"""Encoders: the inputs of a track as matrices, and the networks that place tracks in a space."""
