"""The ServiceAccount of the API's pods, where the owner names none. It is bound to nothing: all that its token is used
for is what every authenticated ServiceAccount may do, fetching the cluster's token-signing keys.
"""

from __future__ import annotations

from putgate_operator.desired import names
from putgate_operator.desired.manifest import child, sealed
from putgate_operator.kinds import SERVICE_ACCOUNT
from putgate_operator.observed import Manifest
from putgate_operator.resources import UploadBucket


def service_account(bucket: UploadBucket) -> Manifest | None:
    if bucket.spec.api.service_account_name:
        return None
    manifest = child(bucket, SERVICE_ACCOUNT, names.api(bucket))
    return sealed({**manifest, "automountServiceAccountToken": False})
