"""The sync daemon: every file that appears or changes under a watched folder is uploaded once, whole and verified.

Watch events are hints, scans are the truth, the journal is what is known. Bytes go through the client's upload
engine and nowhere else; no store credential ever comes here.
"""
