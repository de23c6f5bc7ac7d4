"""Where a bucket is reached: scheme, host and the path before the key.

Two styles: `http://host/bucket/key` and `http://bucket.host/key`. Pure text; nothing is dialled here.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal, Self
from urllib.parse import quote, urlsplit

Style = Literal["Path", "Virtual"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`host`: as the Host header says it, without the scheme's default port. `base`: the path before the key,
    beginning and ending in `/`.
    """

    scheme: str
    host: str
    base: str

    @classmethod
    def of(cls, endpoint: str, bucket: str, style: Style) -> Self:
        """From an endpoint (`https://s3.example.com:9000`, without a path). Raises `ValueError`."""
        split = urlsplit(endpoint)
        if split.scheme not in _DEFAULT_PORTS or not split.hostname or split.path.strip("/") or split.query:
            raise ValueError("an endpoint is http or https, a host and perhaps a port")
        if _is_ip(split.hostname):
            # There is no host below an address; botocore does the same.
            style = "Path"
        host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
        if style == "Virtual":
            host = f"{bucket}.{host}"
        if split.port is not None and split.port != _DEFAULT_PORTS[split.scheme]:
            host = f"{host}:{split.port}"
        return cls(scheme=split.scheme, host=host, base="/" if style == "Virtual" else f"/{bucket}/")

    def path(self, key: str) -> str:
        """The key's URL path, percent-encoded as SigV4 wants it for S3: once, and never normalised."""
        return self.base + quote(key, safe="/~")

    def url(self, path: str) -> str:
        return f"{self.scheme}://{self.host}{path}"


def _is_ip(hostname: str) -> bool:
    try:
        ip_address(hostname)
    except ValueError:
        return False
    return True
