"""Putgate's client: files straight into object storage, over requests that the signing API has signed.

async with putgate.Client("https://files.example.org", token=token) as client:
    await client.upload("report.pdf", "2026/report.pdf")

`putgate.sync.Client` has the same calls for scripts, which wait for their end.
"""

from putgate import sync
from putgate.client import Client
from putgate.errors import (
    AnswerUnreadable,
    ClientError,
    FileReplaced,
    NotVerified,
    SourceChanged,
    StoreRefused,
    Unreachable,
    WrongSize,
)
from putgate.options import Options
from putgate.token_file import TokenFile
from putgate.upload.job import Failed, Job, Uploaded
from putgate.upload.many import Engine
from putgate.upload.progress import Known, NoProgress, Progress, StateFiles
from putgate.upload.source import BytesSource, FileSource
from putgate_protocol.messages.access_url import AccessUrlAnswer
from putgate_protocol.messages.base import File
from putgate_protocol.names import Name
from putgate_protocol.problems import (
    Conflict,
    Forbidden,
    NotFound,
    PreconditionFailed,
    Problem,
    Unauthenticated,
)

__all__ = [
    "AccessUrlAnswer",
    "AnswerUnreadable",
    "BytesSource",
    "Client",
    "ClientError",
    "Conflict",
    "Engine",
    "Failed",
    "File",
    "FileReplaced",
    "FileSource",
    "Forbidden",
    "Job",
    "Known",
    "Name",
    "NoProgress",
    "NotFound",
    "NotVerified",
    "Options",
    "PreconditionFailed",
    "Problem",
    "Progress",
    "SourceChanged",
    "StateFiles",
    "StoreRefused",
    "TokenFile",
    "Unauthenticated",
    "Unreachable",
    "Uploaded",
    "WrongSize",
    "sync",
]
