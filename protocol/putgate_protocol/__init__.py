"""What crosses the wire between clients and the signing API, as values and nothing else.

No I/O, no clock, no randomness: a client in any language can mirror this package, and `docs/vectors.json`
checks that it did.
"""
