"""Benchmarks that a user runs: `llava bench engine`, `llava bench eval`, `llava bench serve`.

Each measures on the machine at hand, in turn with the plain way of doing the same work. Nothing else of this package imports it.
"""
