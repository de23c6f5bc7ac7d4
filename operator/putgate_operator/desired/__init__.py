"""From an UploadBucket to the manifests of its children: one pure module for each child.

Each manifest holds only the fields that the operator owns, so that server-side apply leaves all others alone. Nothing
here looks at what is live but `drift` and `ownership`, which compare.
"""
