"""Stored files to local ones, or to a stream: straight from the store, in ranges of one version, verified."""
