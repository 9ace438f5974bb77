"""Benchmarks that a user runs: `llava bench engine`.

Each measures on the machine at hand, in turn with the plain way of doing the same work, and prints how far it is from what the
machine could do at best. Nothing else of this package imports it.
"""
