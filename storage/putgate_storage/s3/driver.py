"""The S3 driver: control calls through aiobotocore, signed requests and calls for small objects by `sigv4`.

It retries nothing (`wrap.retry` does), limits nothing and measures nothing. `endpoint` is dialled and
`public_endpoint` only signed. Other control calls are signed by botocore with the local clock, which offers no
other; what `sigv4` signs has the store's time.
"""

from __future__ import annotations

import base64
import builtins
import copy
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from aiobotocore.config import AioConfig

from putgate_protocol.digests import PartHash
from putgate_protocol.settings.api import S3
from putgate_storage.errors import ConditionFailed, Refused, Transient, Unsupported
from putgate_storage.open_uploads import open_uploads
from putgate_storage.s3.address import Address
from putgate_storage.s3.bucket import Bucket
from putgate_storage.s3.calls import Calls
from putgate_storage.s3.clock import Clock, StoreClock, utc_now
from putgate_storage.s3.cors import BucketCors
from putgate_storage.s3.credentials import CredentialSource, credential_source
from putgate_storage.s3.errors import Absent, endless
from putgate_storage.s3.headers import (
    CONTENT_ENCODING,
    cache_control,
    condition_headers,
    condition_parameters,
    parse_time,
    put_headers,
    unquoted,
)
from putgate_storage.s3.http import OneRequestSession, never_redirect
from putgate_storage.s3.objects import Objects, parse_etag, parse_head, parse_small
from putgate_storage.s3.presign import Presigner
from putgate_storage.s3.providers import profile, style
from putgate_storage.s3.sigv4 import Signer
from putgate_storage.s3.trust import check_bundle
from putgate_storage.store import (
    Condition,
    CopiedPart,
    CredentialMark,
    Entry,
    FinishedPart,
    Head,
    IfMatch,
    ObjectHeaders,
    OpenUpload,
    Page,
    PartToSign,
    PutToSign,
    SignedRequest,
    Small,
    StoredPart,
    StoreLimits,
    StoreUpload,
    UploadPage,
    Version,
    VersionPage,
)

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import (
        CompletedPartTypeDef,
        ListObjectsV2RequestTypeDef,
        PartTypeDef,
        UploadPartCopyRequestTypeDef,
    )

_CONNECT_TIMEOUT = 5.0
"""Seconds. Too small: a far store never connects; too big: a dead one holds requests for long."""

_READ_TIMEOUT = 60.0
"""Seconds without a byte. Complete of a large upload may be silent for long; a retry of it is not free."""

_POOL = 64
"""Connections. Below the concurrency limit calls queue here unseen; far above it the store sees bursts."""

_PART_PAGE = 1000
"""Parts per ListParts: S3's most."""


async def open_store(settings: S3, *, clock: Clock = utc_now) -> S3Store:
    """A driver for the settings' bucket; nothing is dialled yet. Close it with `aclose`.

    Raises `Permanent` where there are no credentials, or no CA bundle where one is set; `Transient` where the
    source of credentials does not answer.
    """
    chosen = style(settings.addressing_style, settings.provider, settings.bucket)
    check_bundle(settings.ca_bundle)
    credentials = credential_source(settings.credentials)
    await credentials.current()
    credentials.session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_time)
    resources = AsyncExitStack()
    client = await resources.enter_async_context(
        credentials.session.create_client(
            "s3",
            region_name=settings.region,
            endpoint_url=settings.endpoint,
            verify=str(settings.ca_bundle) if settings.ca_bundle else None,
            config=_config(chosen.lower()),
        )
    )
    never_redirect(client)
    dialled = settings.endpoint or client.meta.endpoint_url
    return S3Store(
        client=client,
        resources=resources,
        settings=settings,
        credentials=credentials,
        clock=StoreClock(clock),
        public=Address.of(settings.public_endpoint or dialled, settings.bucket, chosen),
        dialled=Address.of(dialled, settings.bucket, chosen),
    )


def _config(addressing: str) -> AioConfig:
    return AioConfig(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        max_pool_connections=_POOL,
        retries={"total_max_attempts": 1, "mode": "standard"},
        # botocore's CRC by default breaks several stores.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version="s3v4",
        s3={"addressing_style": addressing},
        http_session_cls=OneRequestSession,
    )


class S3Store:
    """One bucket. Implements the core, ListsUploads, CopiesParts, DeletesIfMatch, ListsVersions, ManagesBucket,
    ExpiresUploads, AllowsOrigins, HasCredentials and Probeable.
    """

    def __init__(
        self,
        *,
        client: S3Client,
        resources: AsyncExitStack,
        settings: S3,
        credentials: CredentialSource,
        clock: StoreClock,
        public: Address,
        dialled: Address,
    ) -> None:
        self._client = client
        self._resources = resources
        self._name = settings.bucket
        self._profile = profile(settings.provider)
        self._credentials = credentials
        self._clock = clock
        self._call = Calls(clock)
        location = settings.region if settings.provider == "AWS" and settings.region != "us-east-1" else None
        self._bucket = Bucket(client, self._call, settings.bucket, location)
        self._cors = BucketCors(client, self._call, settings.bucket)
        self._quoted = self._profile.quoted_if_match
        self._presigner = Presigner(Signer(public, settings.region), credentials, clock, quoted=self._quoted)
        self._objects = Objects(client, self._name, Signer(dialled, settings.region), credentials, clock)
        self._presigner_of_age = partial(
            Presigner, Signer(dialled, settings.region), credentials, clock, quoted=self._quoted
        )
        self._part_page = _PART_PAGE

    @property
    def limits(self) -> StoreLimits:
        return self._profile.limits

    def reserves(self, key: str) -> bool:
        return self._profile.reserved.holds(key)

    def now(self) -> datetime:
        return self._clock.now()

    def probe_view(self, *, age: timedelta = timedelta(0)) -> S3Store:
        """The same store and connections, signing for the endpoint that is dialled. Close only the original."""
        view = copy.copy(self)
        view._become_probe_view(age)  # noqa: SLF001 - a view of ourselves
        return view

    def _become_probe_view(self, age: timedelta) -> None:
        self._resources = AsyncExitStack()
        self._presigner = self._presigner_of_age(age=age)
        self._part_page = 2

    def copy_source(self, key: str) -> str:
        return f"/{self._name}/{quote(key)}"

    async def aclose(self) -> None:
        await self._resources.aclose()

    # --- uploads ---

    async def create_upload(self, key: str, headers: ObjectHeaders) -> StoreUpload:
        answer = await self._call(
            "CreateMultipartUpload",
            key,
            self._client.create_multipart_upload(
                Bucket=self._name,
                Key=key,
                ChecksumAlgorithm="SHA256",
                ContentType=headers.content_type,
                ContentEncoding=CONTENT_ENCODING,
                CacheControl=cache_control(headers),
                Metadata=headers.metadata,
            ),
        )
        return StoreUpload(key=key, upload_id=answer["UploadId"])

    async def list_parts(self, upload: StoreUpload) -> builtins.list[StoredPart] | None:
        found: dict[int, PartTypeDef] = {}
        marker = 0
        while True:
            try:
                answer = await self._call(
                    "ListParts",
                    upload.key,
                    self._client.list_parts(
                        Bucket=self._name,
                        Key=upload.key,
                        UploadId=upload.upload_id,
                        PartNumberMarker=marker,
                        MaxParts=self._part_page,
                    ),
                )
            except Absent:
                return None
            for part in answer.get("Parts", []):
                _keep_latest(found, part)
            following = int(answer.get("NextPartNumberMarker", 0) or 0)
            if not answer.get("IsTruncated") or following <= marker:
                return [_stored_part(part) for _, part in sorted(found.items())]
            marker = following

    async def complete(
        self, upload: StoreUpload, parts: Sequence[FinishedPart], condition: Condition | None = None
    ) -> str | None:
        try:
            answer = await self._call(
                "CompleteMultipartUpload",
                upload.key,
                self._client.complete_multipart_upload(
                    Bucket=self._name,
                    Key=upload.key,
                    UploadId=upload.upload_id,
                    MultipartUpload={"Parts": [self._finished(part) for part in parts]},
                    **condition_parameters(condition, quoted=self._quoted),
                ),
                conditional=condition is not None,
            )
        except Absent as absent:
            if isinstance(condition, IfMatch) and absent.code == "NoSuchKey":
                raise ConditionFailed(str(absent), code=absent.code) from absent
            return None
        return unquoted(answer.get("ETag", ""))

    def _finished(self, part: FinishedPart) -> CompletedPartTypeDef:
        finished: CompletedPartTypeDef = {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
        if part.sha256 is not None and self._profile.part_sha256_in_complete:
            finished["ChecksumSHA256"] = part.sha256.base64
        return finished

    async def abort(self, upload: StoreUpload) -> bool:
        try:
            await self._call(
                "AbortMultipartUpload",
                upload.key,
                self._client.abort_multipart_upload(Bucket=self._name, Key=upload.key, UploadId=upload.upload_id),
            )
        except Absent:
            return False
        return True

    async def copy_part(
        self, upload: StoreUpload, number: int, source: str, *, span: tuple[int, int] | None, source_etag: str | None
    ) -> CopiedPart:
        request: UploadPartCopyRequestTypeDef = {
            "Bucket": self._name,
            "Key": upload.key,
            "UploadId": upload.upload_id,
            "PartNumber": number,
            "CopySource": {"Bucket": self._name, "Key": source},
        }
        if span is not None:
            request["CopySourceRange"] = f"bytes={span[0]}-{span[1]}"
        if source_etag is not None:
            request["CopySourceIfMatch"] = f'"{source_etag}"'
        call = self._client.upload_part_copy(**request)
        answer = await self._call("UploadPartCopy", upload.key, call, conditional=source_etag is not None)
        result = answer.get("CopyPartResult", {})
        if not result.get("ETag"):
            raise Transient(f"UploadPartCopy {upload.key!r}: success without an ETag", code="CopyUnclear")
        return CopiedPart(etag=unquoted(result["ETag"]), sha256=_digest(result.get("ChecksumSHA256")))

    async def list_uploads(self, prefix: str) -> builtins.list[OpenUpload]:
        return [found async for found in open_uploads(self, prefix)]

    async def list_uploads_page(self, prefix: str, *, token: str | None = None, limit: int = 1000) -> UploadPage:
        key_marker, upload_marker = ("", "") if token is None else json.loads(token)
        answer = await self._call(
            "ListMultipartUploads",
            prefix,
            self._client.list_multipart_uploads(
                Bucket=self._name,
                Prefix=prefix,
                KeyMarker=key_marker,
                UploadIdMarker=upload_marker,
                MaxUploads=limit,
            ),
        )
        following = None
        if answer.get("IsTruncated"):
            following = json.dumps([answer.get("NextKeyMarker", ""), answer.get("NextUploadIdMarker", "")])
            if following in (token, json.dumps(["", ""])):
                raise endless("ListMultipartUploads")
        return UploadPage(
            uploads=[
                OpenUpload(
                    upload=StoreUpload(key=each["Key"], upload_id=each["UploadId"]),
                    initiated=each["Initiated"].astimezone(UTC) if "Initiated" in each else None,
                )
                for each in answer.get("Uploads", [])
            ],
            token=following,
        )

    # --- objects ---

    async def head(self, key: str) -> Head | None:
        sent = self._clock.local()
        try:
            answer = await self._call("HeadObject", key, self._objects.head(key))
        except Absent:
            return None
        return parse_head(key, answer, self._call.date(answer, sent))

    async def get_small(self, key: str, max_bytes: int) -> Small | None:
        sent = self._clock.local()
        try:
            answer = await self._call("GetObject", key, self._objects.get(key, max_bytes))
        except Absent:
            return None
        return parse_small(key, answer, self._call.date(answer, sent))

    async def put_small(
        self,
        key: str,
        body: bytes,
        *,
        headers: ObjectHeaders | None = None,
        condition: Condition | None = None,
    ) -> str:
        put = PutToSign(
            key=key,
            length=len(body),
            sha256=PartHash.of(body),
            headers=headers or ObjectHeaders(),
            condition=condition,
        )
        call = self._objects.put(key, body, put_headers(put, quoted=self._quoted))
        try:
            answer = await self._call("PutObject", key, call, conditional=condition is not None)
        except Absent as absent:
            if isinstance(condition, IfMatch):
                raise ConditionFailed(str(absent), code=absent.code) from absent
            raise
        return parse_etag(key, answer)

    async def delete(self, key: str) -> None:
        try:
            await self._call("DeleteObject", key, self._objects.delete(key, {}))
        except Absent:
            return

    async def delete_if_match(self, key: str, etag: str) -> None:
        call = self._objects.delete(key, condition_headers(IfMatch(etag=etag), quoted=self._quoted))
        try:
            await self._call("DeleteObject", key, call, conditional=True)
        except Absent as absent:
            raise ConditionFailed(str(absent), code=absent.code) from absent

    async def list(
        self,
        prefix: str,
        *,
        delimiter: str | None = None,
        start_after: str | None = None,
        token: str | None = None,
        limit: int = 1000,
    ) -> Page:
        options: ListObjectsV2RequestTypeDef = {"Bucket": self._name, "Prefix": prefix, "MaxKeys": limit}
        if delimiter:
            options["Delimiter"] = delimiter
        if start_after:
            options["StartAfter"] = start_after
        if token:
            options["ContinuationToken"] = token
        try:
            answer = await self._call(
                "ListObjectsV2",
                prefix,
                self._client.list_objects_v2(**options),
            )
        except Unsupported as unsupported:
            if token is None:
                raise
            # MinIO's answer to a token that it has not given.
            raise Refused(str(unsupported), code=unsupported.code) from unsupported
        following = answer.get("NextContinuationToken")
        if answer.get("IsTruncated") and not following:
            raise endless("ListObjectsV2")
        return Page(
            entries=[
                Entry(
                    key=it["Key"],
                    size=it["Size"],
                    etag=unquoted(it["ETag"]),
                    modified=it["LastModified"].astimezone(UTC),
                )
                for it in answer.get("Contents", [])
            ],
            prefixes=[it["Prefix"] for it in answer.get("CommonPrefixes", [])],
            token=following if answer.get("IsTruncated") else None,
        )

    # --- signing ---

    async def sign_parts(
        self, upload: StoreUpload, parts: Sequence[PartToSign], life: timedelta
    ) -> builtins.list[SignedRequest]:
        return await self._presigner.parts(upload, parts, life)

    async def sign_put(self, put: PutToSign, life: timedelta) -> SignedRequest:
        return await self._presigner.put(put, life)

    async def sign_get(
        self,
        key: str,
        life: timedelta,
        *,
        content_type: str | None = None,
        disposition: str | None = None,
        cache_control: str | None = None,
    ) -> SignedRequest:
        overrides = {
            "response-cache-control": cache_control,
            "response-content-disposition": disposition,
            "response-content-type": content_type,
        }
        return await self._presigner.get(key, life, overrides)

    # --- the bucket ---

    async def bucket_exists(self) -> bool:
        return await self._bucket.exists()

    async def create_bucket(self) -> bool:
        return await self._bucket.create()

    async def delete_bucket(self) -> None:
        await self._bucket.delete()

    async def list_versions(self, prefix: str, *, token: str | None = None) -> VersionPage:
        return await self._bucket.versions(prefix, token)

    async def delete_version(self, version: Version) -> None:
        await self._bucket.delete_version(version)

    async def credential_mark(self) -> CredentialMark:
        return await self._credentials.mark()

    async def ensure_abort_rule(self, rule_id: str, prefix: str, days: int) -> None:
        await self._bucket.ensure_abort_rule(rule_id, prefix, days)

    async def ensure_cors_rule(self, rule_id: str, origins: Sequence[str]) -> None:
        await self._cors.ensure_rule(rule_id, origins)


def _keep_latest(found: dict[int, PartTypeDef], part: PartTypeDef) -> None:
    """A part that was sent again replaces the first; SeaweedFS lists both, in no order."""
    other = found.get(part["PartNumber"])
    if other is None or part["LastModified"] >= other["LastModified"]:
        found[part["PartNumber"]] = part


def _digest(text: str | None) -> PartHash | None:
    """What a store says of a part's SHA-256; None where it is no such digest."""
    try:
        return None if text is None else PartHash(base64.b64decode(text, validate=True))
    except ValueError:
        return None


def _stored_part(part: PartTypeDef) -> StoredPart:
    return StoredPart(number=part["PartNumber"], size=part["Size"], etag=unquoted(part["ETag"]))
