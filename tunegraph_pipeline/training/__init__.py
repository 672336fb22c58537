"""Learning from likes: the objective, the training loop with its checkpoints, the neighbour weights, the
blend of the scoring rule, the calibrated neighbour probability and the map. Arrays in, arrays out.
"""
