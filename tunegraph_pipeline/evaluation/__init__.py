"""Judging what is served: ranking metrics, the baselines every model has to be seen beside, and the plots.

Everything here takes and returns arrays and frames; whatever ranks is handed in as a callable, so the served
ranking and a baseline are judged by the very same lines.
"""
