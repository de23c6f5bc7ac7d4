"""The rules of ours that a bucket keeps: for clean-up, and for web pages. Neither depends on the other."""

from __future__ import annotations

from dataclasses import replace

from putgate_api.prepare.steps import ensure_cors, ensure_expiry
from putgate_api.prepare.trouble import Trouble, cors_trouble, lifecycle_trouble
from putgate_protocol.settings.api import ApiSettings, Storage
from putgate_storage.errors import StoreError
from putgate_storage.store import Store


async def unconfigured(store: Store, settings: ApiSettings) -> Trouble | None:
    """What does not stand, or None. A condition has one reason: the first one's, with what is said of both."""
    found = []
    for ensure, trouble in ((ensure_expiry, lifecycle_trouble), (ensure_cors, cors_trouble)):
        try:
            await ensure(store, settings)
        except StoreError as error:
            found.append(trouble(error, settings.storage))
    if not found:
        return None
    return replace(found[0], message="; ".join(each.message for each in found))


def configured(storage: Storage) -> str:
    pages = "; web pages may use signed URLs" if storage.cors.allowed_origins else ""
    return f"the store drops abandoned uploads by itself{pages}"
