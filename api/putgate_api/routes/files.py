"""`/files`: redirect, describe, remove, list; and `access_url`, which gives the redirect's URL itself."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from aiohttp import web

from putgate_api.disposition import Policy
from putgate_api.files import Listing, access_url, describe, list_files, remove, signed_get
from putgate_api.routes.http import answer, read
from putgate_api.routes.serving import Serving
from putgate_protocol.messages.access_url import AccessUrlRequest
from putgate_protocol.messages.files import (
    HEADER_FILE_HASH,
    HEADER_PART_SIZE,
    HEADER_SIZE,
    HEADER_VERSION,
    MAX_LIMIT,
)
from putgate_protocol.names import Name
from putgate_protocol.problems import problem

NOT_KEPT = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
"""A signed URL is a secret: no cache may keep it, no page may tell it on."""


def add_file_routes(app: web.Application, serving: Serving, policy: Policy) -> None:
    async def get(request: web.Request) -> web.Response:
        caller = await serving.caller(request)
        name = name_of(request)
        signed = await signed_get(serving.bucket, caller, name, policy)
        return web.Response(status=302, headers={"Location": signed.url, **NOT_KEPT})

    async def url(request: web.Request) -> web.Response:
        caller = await serving.caller(request)
        message = await read(request, AccessUrlRequest)
        response = answer(await access_url(serving.bucket, caller, message, policy))
        response.headers.update(NOT_KEPT)
        return response

    async def head(request: web.Request) -> web.Response:
        found = await describe(serving.bucket, await serving.caller(request), name_of(request))
        headers = {
            HEADER_SIZE: str(found.file.size),
            HEADER_VERSION: found.file.version or "",
            "Cache-Control": "no-store",
        }
        if found.content is not None:
            headers[HEADER_FILE_HASH] = str(found.content.file_hash)
            headers[HEADER_PART_SIZE] = str(found.content.part_size)
        headers["Content-Type"] = found.file.content_type or "application/octet-stream"
        response = web.Response(headers=headers)
        if found.file.version:
            response.etag = found.file.version
        response.last_modified = found.file.modified
        return response

    async def delete(request: web.Request) -> web.Response:
        caller = await serving.caller(request)
        wanted = request.headers.get("If-Match")
        await remove(serving.bucket, caller, name_of(request), if_match=None if wanted is None else _version(wanted))
        return web.Response(status=204)

    async def listing(request: web.Request) -> web.Response:
        caller = await serving.caller(request)
        query = _query(request)
        asked = Listing.parse(
            serving.bucket, query.get("prefix", b""), _text(query, "delimiter"), _limit(_text(query, "limit"))
        )
        return answer(await list_files(serving.bucket, caller, asked, _text(query, "cursor")))

    # A name may hold a line feed, which `.` would not match.
    name = r"/files/{name:[\s\S]+}"
    app.router.add_get("/files", listing, name="list", allow_head=False)
    app.router.add_get(name, get, name="file", allow_head=False)
    app.router.add_head(name, head, name="stat")
    app.router.add_delete(name, delete, name="delete")
    app.router.add_post("/object/access_url", url, name="access_url")


def name_of(request: web.Request) -> Name:
    """The name in the path, percent-decoded exactly once. Raises `NameProblem`."""
    raw_path = request.raw_path.partition("?")[0]
    return Name.parse(unquote_to_bytes(raw_path.partition("/files/")[2]))


def _query(request: web.Request) -> dict[str, bytes]:
    """The query with values as bytes: a prefix need not be UTF-8."""
    found: dict[str, bytes] = {}
    for pair in request.raw_path.partition("?")[2].split("&"):
        key, _, value = pair.partition("=")
        found[key] = unquote_to_bytes(value.replace("+", " "))
    return found


def _text(query: dict[str, bytes], field: str) -> str | None:
    value = query.get(field)
    if not value:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise problem("request_invalid", f"{field} is not UTF-8") from None


def _limit(text: str | None) -> int:
    if text is None:
        return MAX_LIMIT
    if not text.isascii() or not text.isdigit() or len(text) > 4 or not 1 <= int(text) <= MAX_LIMIT:
        raise problem("request_invalid", f"limit is a number from 1 to {MAX_LIMIT}")
    return int(text)


def _version(header: str) -> str:
    """With or without the quotes that HTTP has around an ETag."""
    text = header.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
