"""Whether what the bucket holds is what was uploaded: looked at, never changed.

Each kind of thing has its checker, a module here; `backend` lists them. Nothing here writes to the store.
"""
