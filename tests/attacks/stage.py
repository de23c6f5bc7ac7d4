"""What an attack is played on: a real API before a real store, files to declare, and a look at what came of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp

from tests.api.calls import Calls, md5s
from tests.servers.api import ApiProcess

SIZE = 1000
MULTIPART = 3
"""The `recheck` from which small files go the multipart way too."""


class NotOffered(Exception):
    """The API signs no such request for this store."""


@dataclass(kw_only=True)
class Upload:
    """One declared file. `part`: its signed request, as its holder has it."""

    name: str
    data: bytes
    upload_id: str
    part: Mapping[str, Any]


@dataclass(kw_only=True)
class Stage:
    """`way`: which signed request is taken. `victim`: what somebody stored before, as long as what is declared."""

    api: ApiProcess
    calls: Calls
    way: str
    folder: str = field(default_factory=lambda: secrets.token_hex(4))
    victim_data: bytes = field(default_factory=lambda: os.urandom(SIZE))
    uploads: list[Upload] = field(default_factory=list)

    @property
    def victim(self) -> str:
        return f"{self.folder}/victim"

    async def prepare(self) -> None:
        await self.calls.upload(self.victim, self.victim_data, md5=md5s(self.victim_data))

    async def declare(self) -> Upload:
        """Raises `NotOffered`."""
        name, data = f"{self.folder}/{len(self.uploads)}", os.urandom(SIZE)
        recheck = MULTIPART if self.way == "UploadPart" else 0
        status, answer = await self.calls.initiate(name, data, md5=md5s(data), recheck=recheck)
        assert status == 200, answer
        if (answer["commit"] == "put") != (self.way == "PutObject"):
            raise NotOffered
        upload = Upload(name=name, data=data, upload_id=answer["upload_id"], part=answer["parts"][0])
        self.uploads.append(upload)
        return upload

    async def send(self, upload: Upload, body: bytes | None = None, **changes: Any) -> int:
        """The store's status. `changes`: of the signed request; `body`: else than what was declared."""
        extra, method = changes.pop("extra", None), changes.pop("method", None)
        part = {**upload.part, **changes}
        return await self.calls.send(part, upload.data if body is None else body, method=method, extra=extra)

    async def complete(self, upload: Upload) -> tuple[int, str]:
        status, answer = await self.calls.post("complete_multipart_upload", {"upload_id": upload.upload_id})
        return status, answer.get("code") or answer["status"]

    async def abort(self, upload: Upload) -> None:
        status, answer = await self.calls.post("abort_multipart_upload", {"upload_id": upload.upload_id})
        assert status == 200, answer

    async def check(self) -> None:
        """Whatever is a file of Putgate by now has the bytes that were declared, nothing else, and is nobody else's."""
        assert await self.calls.download(self.victim) == self.victim_data
        for upload in self.uploads:
            status, _, _ = await self.calls.file("HEAD", upload.name)
            assert status in {200, 404}
            if status == 200:
                assert await self.calls.download(upload.name) == upload.data, (
                    "a file has other bytes than its hash says"
                )
                self._check_stored(upload)
                assert await self._anonymous(upload) in {401, 403}, "everybody may read what was uploaded"

    def _check_stored(self, upload: Upload) -> None:
        client = self.api.store.client()
        try:
            where = {"Bucket": self.api.store.bucket, "Key": self.api.prefix + upload.name}
            head = client.head_object(**where)
            assert "extra" not in head["Metadata"]
            assert head["Metadata"]["putgate-owner"] != "f" * 64
            assert client.get_object_tagging(**where)["TagSet"] == []
        finally:
            client.close()

    async def _anonymous(self, upload: Upload) -> int:
        store = self.api.store
        url = f"{store.endpoint}/{store.bucket}/{quote(self.api.prefix + upload.name)}"
        async with aiohttp.ClientSession() as nobody, nobody.get(url) as answer:
            return answer.status
