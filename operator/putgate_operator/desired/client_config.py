"""What an application needs to reach the API, as a ConfigMap to take its environment from. No credentials: an
application presents its own ServiceAccount token, made for the audience named here.

There is no `ca.crt`: the API's certificate is in a Secret, and the operator reads none.
"""

from __future__ import annotations

from putgate_operator.desired import names
from putgate_operator.desired.manifest import child, sealed
from putgate_operator.kinds import CONFIG_MAP
from putgate_operator.observed import Manifest
from putgate_operator.resources import UploadBucket


def config_map(bucket: UploadBucket) -> Manifest:
    data = {"url": names.url(bucket), "audience": names.audience(bucket)}
    return sealed({**child(bucket, CONFIG_MAP, names.client_config(bucket)), "data": data})
