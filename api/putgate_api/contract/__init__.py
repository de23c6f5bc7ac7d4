"""The API described for other clients: OpenAPI, generated from the messages and the problem codes, and a page of it.

`python -m putgate_api.contract` writes what is committed as `docs/openapi.json`. Nothing here serves anything, and no
shape of a message is written down a second time.
"""
