"""Signs requests with the present credentials and the store's time; `sigv4` does the pure part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from putgate_storage.errors import Transient
from putgate_storage.s3.clock import StoreClock
from putgate_storage.s3.credentials import CredentialSource
from putgate_storage.s3.headers import put_headers
from putgate_storage.s3.sigv4 import MAX_LIFE, Signer, Terms
from putgate_storage.store import PartToSign, PutToSign, SignedRequest, StoreUpload


class Presigner:
    """For one address. `age`: signs as if so long ago, for the probe. `quoted`: how an ETag is given in `If-Match`."""

    def __init__(
        self,
        signer: Signer,
        credentials: CredentialSource,
        clock: StoreClock,
        *,
        age: timedelta = timedelta(0),
        quoted: bool = True,
    ) -> None:
        self._signer = signer
        self._credentials = credentials
        self._clock = clock
        self._age = age
        self._quoted = quoted

    async def parts(self, upload: StoreUpload, parts: Sequence[PartToSign], life: timedelta) -> list[SignedRequest]:
        return self._signer.sign_parts(upload.key, upload.upload_id, parts, await self._terms(life))

    async def put(self, put: PutToSign, life: timedelta) -> SignedRequest:
        return self._signer.sign("PUT", put.key, await self._terms(life), headers=put_headers(put, quoted=self._quoted))

    async def get(self, key: str, life: timedelta, overrides: Mapping[str, str | None]) -> SignedRequest:
        query = {name: value for name, value in overrides.items() if value is not None}
        return self._signer.sign("GET", key, await self._terms(life), query=query)

    async def _terms(self, life: timedelta) -> Terms:
        """No URL outlives the credentials that sign it. Raises `Transient` where they have ended already."""
        credentials = await self._credentials.current()
        now = self._clock.now() - self._age
        if credentials.expires_at is not None:
            life = min(life, credentials.expires_at - now)
        seconds = min(int(life.total_seconds()), MAX_LIFE)
        if seconds < 1:
            raise Transient("the store's temporary credentials have expired", code="CredentialsExpired")
        return Terms(credentials=credentials, now=now, life=seconds)
