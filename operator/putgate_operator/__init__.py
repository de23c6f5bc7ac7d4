"""The Kubernetes operator's package: it turns `UploadBucket` objects into running signing APIs.

It lives in the folder `operator/`, which is a folder and never a package, so that the standard library's
`operator` stays importable from the root of a checkout.
"""
