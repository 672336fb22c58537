"""Queries: the serving bundle and the ranking over it.

`bundle` writes and opens a bundle, `publication` makes it live, `ranking` has the scoring rule over its
arrays, and `recommender` answers by ids. Only numpy and the standard library, so that a service, a Lambda
function or a notebook that answers queries loads no training code.
"""
