"""The JSON of every call, as strict pydantic models: the only place that knows JSON shapes.

One module per call. Requests ignore unknown fields and bound every list and string; what a field *means* is
checked by the use case that reads it, which answers with the protocol's own codes.
"""
