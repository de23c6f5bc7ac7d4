"""Putgate's own objects in the bucket: typed, and with their keys derived in one place."""
