"""Whether what the bucket holds is what was uploaded.

Each kind of thing has its checker, a module here; `backend` lists them. Nothing here writes to the store, but that
`hints` removes hints where it is told to.
"""
