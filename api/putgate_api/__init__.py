"""The signing API: decides who may, signs requests straight to the store, and vouches for the result.

It keeps no state of its own; the bucket is the only durable state, so any replica can answer any call.
"""
