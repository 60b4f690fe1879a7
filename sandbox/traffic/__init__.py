"""A team's CI, drawn from a seed number: played through the API server, or written straight as records.

`team` says who the team is, `lives` draws what happens to it, `play` lets it happen on a practice cluster and keeps the
truth aside (`truth`), `records` writes the same as millions of records for benchmarks.
"""
