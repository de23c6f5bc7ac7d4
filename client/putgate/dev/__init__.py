"""`putgate dev`: a real local store, the API and the daemon on one folder, as child processes of one command.

It imports none of the other programs and talks to them as anybody would: by their settings files, their commands,
their `/readyz` and their logs. Nothing listens beyond the loopback address.
"""
