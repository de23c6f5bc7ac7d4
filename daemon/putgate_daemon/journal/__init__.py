"""What is known: which files are stored, which failed, how far uploads have come. Also the engine's progress store.

Losing it loses nothing but time: it is rebuilt by scanning, and content that is stored already is not sent again.
"""
