"""How many of the API's pods a drain of nodes may take at a time. Pods that are not ready anyway never hold one up."""

from __future__ import annotations

from putgate_operator.desired import names
from putgate_operator.desired.manifest import child, sealed
from putgate_operator.kinds import DISRUPTION_BUDGET
from putgate_operator.observed import Manifest
from putgate_operator.resources import UploadBucket


def disruption_budget(bucket: UploadBucket) -> Manifest:
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": names.selector(bucket)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return sealed({**child(bucket, DISRUPTION_BUDGET, names.api(bucket)), "spec": spec})
