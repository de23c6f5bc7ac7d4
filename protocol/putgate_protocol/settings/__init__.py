"""The files that programs read, as frozen models: what one program writes is what another reads.

Names and order are those of the `UploadBucket` custom resource, in snake_case. Unknown keys are errors, nothing
secret has a default, and every error names its exact place.
"""
