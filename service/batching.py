"""Queries of concurrent requests are encoded together.

There is no timer: what arrives while one batch is encoded is the next batch, filled to a budget of tokens. Each encoder
has a queue and a thread of its own, which outlives whatever a request brings.
"""
