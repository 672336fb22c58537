"""Learning from likes: the objective, the training loop with its checkpoints, the neighbour weights, the
blend of the scoring rule, and the calibrated neighbour probability. Arrays in, arrays out.
"""
