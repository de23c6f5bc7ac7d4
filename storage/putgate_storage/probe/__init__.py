"""Sees what a store really enforces, by sending it deliberately wrong requests as a holder of them would.

Nothing that a store's documentation or name promises is believed; what was not seen does not count.
"""
