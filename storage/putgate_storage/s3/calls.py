"""Every control call passes through here: its error becomes ours, and its `Date` moves the store's clock."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import datetime
from typing import TypeVar

from botocore.exceptions import ClientError

from putgate_storage.s3.clock import StoreClock
from putgate_storage.s3.errors import LIBRARY_ERRORS, translate
from putgate_storage.s3.headers import date_header

T = TypeVar("T", bound=Mapping[str, object])


class Calls:
    def __init__(self, clock: StoreClock) -> None:
        self._clock = clock

    async def __call__(self, operation: str, key: str, answer: Awaitable[T], *, conditional: bool = False) -> T:
        """Await one call of the client. `operation` and `key` are for messages; `conditional`: it carries a
        precondition. Raises `StoreError`, `Absent` among them.
        """
        sent = self._clock.local()
        try:
            received = await answer
        except LIBRARY_ERRORS as error:
            if isinstance(error, ClientError):
                self._clock.note(date_header(error.response), sent)
            raise translate(error, operation, key, conditional=conditional) from error
        self._clock.note(date_header(received), sent)
        return received

    def date(self, answer: Mapping[str, object], sent: datetime) -> datetime:
        """The store's time in this answer to a call begun at local time `sent`."""
        return self._clock.note(date_header(answer), sent) or self._clock.now()
