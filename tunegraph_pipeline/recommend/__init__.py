"""The query: the serving bundle and the ranking over it.

`bundle` writes, checks, publishes and maps what a query needs; `ranking` is the scoring rule over its arrays;
`recommender` speaks in ids and names. numpy and the standard library alone, so that a service, a Lambda or a
notebook that only answers queries never loads the machinery that trains.
"""
