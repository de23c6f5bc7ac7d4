"""What the tests need of any S3 server: where it is, whom it knows, and a plain client behind Putgate's back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import botocore.session
from botocore.config import Config

from putgate_protocol.settings.api import Provider

REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom a server lets in. `token`: of temporary credentials."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """A server that runs. Tests share its bucket and keep apart by prefix."""

    provider: Provider
    endpoint: str
    bucket: str
    identity: Identity
    region: str = REGION

    @property
    def access_key(self) -> str:
        return self.identity.access_key

    @property
    def secret_key(self) -> str:
        return self.identity.secret_key

    def client(self, identity: Identity | None = None) -> Any:
        """A plain blocking S3 client, for what a test prepares and looks at. Close it."""
        return client(self.endpoint, identity or self.identity)


def client(endpoint: str, identity: Identity, service: str = "s3") -> Any:
    return botocore.session.Session().create_client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id=identity.access_key,
        aws_secret_access_key=identity.secret_key,
        aws_session_token=identity.token,
        config=Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
