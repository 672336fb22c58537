"""The three generations before today's model, as first written: V1, V2 and V3.

`models` are the networks, `training` trains them and `recommender` ranks with them, for comparison alone.
Nothing is imported here.
"""
