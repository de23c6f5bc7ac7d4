"""The only package that talks to object stores: drivers, the request signer, the probe.

Everything above it speaks `store.Store` and the optional abilities beside it, and never a vendor's API.
"""
