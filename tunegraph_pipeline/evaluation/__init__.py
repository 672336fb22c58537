"""Evaluation of what is served: ranking metrics, the baselines for comparison, and the plots.

Everything here takes and returns arrays and frames; a ranking is passed in as a callable, so the served one
and a baseline are judged by the same code.
"""
