"""Benchmarks: figures as ratios against a peer in the same run, or CPU seconds of a process. Nothing here is a test."""
