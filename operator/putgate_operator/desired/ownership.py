"""Whose a live object is. What another made is never written, never deleted and never mounted."""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from putgate_operator.desired.manifest import OWNER_UID
from putgate_operator.kinds import UPLOAD_BUCKET
from putgate_operator.observed import ChildKey, Raw, dig
from putgate_operator.resources import UploadBucket


class Owner(Enum):
    """`PREDECESSOR`: a deleted UploadBucket of the same name, whose children the garbage collector is about to take."""

    NOBODY = "absent"
    OURS = "ours"
    PREDECESSOR = "predecessor"
    FOREIGN = "foreign"


def owner(bucket: UploadBucket, live: Raw | None) -> Owner:
    """By the controlling ownerReference alone: labels and annotations are anybody's to write."""
    if live is None:
        return Owner.NOBODY
    references = dig(live, "metadata", "ownerReferences", default=())
    controller = next((reference for reference in references if reference.get("controller")), None)
    if controller is None:
        return Owner.FOREIGN
    if controller.get("uid") == bucket.uid:
        return Owner.OURS
    same_name = controller.get("kind") == UPLOAD_BUCKET.kind and controller.get("name") == bucket.name
    return Owner.PREDECESSOR if same_name else Owner.FOREIGN


def made_for(bucket: UploadBucket, live: Raw | None) -> bool:
    """Whether the operator made this for the UploadBucket; for what has no ownerReference, or has lost it when its
    owner was deleted as an orphan.
    """
    return bool(dig(live, "metadata", "annotations", OWNER_UID) == bucket.uid)


def conflict_message(key: ChildKey, found: Owner) -> str:
    match found:
        case Owner.FOREIGN:
            return (
                f"{key} exists and is not controlled by this UploadBucket; it is left alone. "
                "Delete or rename it, or give the UploadBucket another name."
            )
        case Owner.PREDECESSOR:
            return f"{key} belongs to a deleted UploadBucket of the same name; waiting for the garbage collector."
        case Owner.OURS | Owner.NOBODY:
            raise ValueError(f"{key} is no conflict")
        case _:
            assert_never(found)
