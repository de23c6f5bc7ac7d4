"""Signing: URLs per second beside botocore's presigner in one run, and what 10,000 parts cost.

Both sign UploadPart with a length and a SHA-256, for one upload. Prints JSON and one line for people.
Run: python benchmarks/signing.py
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import botocore.session
from botocore.config import Config

from putgate_protocol.digests import PartHash
from putgate_storage.s3.address import Address
from putgate_storage.s3.sigv4 import Credentials, Signer, Terms
from putgate_storage.store import PartToSign

PARTS = 10_000
PAGE = 1_000
BOTOCORE_URLS = 1_000
PART_SIZE = 8 * 1024**2
ENDPOINT, BUCKET, REGION = "https://s3.example.com", "bucket", "eu-central-1"
ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
KEY, UPLOAD_ID = "team/films/some film (1).mkv", "2~" + "a1B2" * 12


def cpu_seconds(work: Callable[[], object]) -> float:
    """The best of three runs, in CPU seconds of this process."""
    runs = []
    for _ in range(3):
        begun = time.process_time()
        work()
        runs.append(time.process_time() - begun)
    return min(runs)


def parts() -> list[PartToSign]:
    hashes = [PartHash.of(number.to_bytes(4, "big")) for number in range(PARTS)]
    return [PartToSign(number=n, length=PART_SIZE, sha256=sha256) for n, sha256 in enumerate(hashes, 1)]


def sign_pages(signer: Signer, to_sign: list[PartToSign]) -> None:
    """As the API does it: a page of signatures per call."""
    credentials = Credentials(access_key=ACCESS_KEY, secret_key=SECRET_KEY)
    for first in range(0, len(to_sign), PAGE):
        terms = Terms(credentials=credentials, now=datetime.now(UTC), life=900)
        signer.sign_parts(KEY, UPLOAD_ID, to_sign[first : first + PAGE], terms)


def botocore_client() -> Any:
    return botocore.session.Session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=ENDPOINT,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
        ),
    )


def presign_with_botocore(client: Any, to_sign: list[PartToSign]) -> None:
    for part in to_sign:
        assert part.sha256 is not None
        client.generate_presigned_url(
            "upload_part",
            Params={
                "Bucket": BUCKET,
                "Key": KEY,
                "UploadId": UPLOAD_ID,
                "PartNumber": part.number,
                "ContentLength": part.length,
                "ChecksumSHA256": part.sha256.base64,
            },
            ExpiresIn=900,
        )


def main() -> None:
    to_sign = parts()
    signer = Signer(Address.of(ENDPOINT, BUCKET, "Path"), REGION)
    client = botocore_client()
    presign_with_botocore(client, to_sign[:10])
    ours = cpu_seconds(lambda: sign_pages(signer, to_sign))
    theirs = cpu_seconds(lambda: presign_with_botocore(client, to_sign[:BOTOCORE_URLS]))
    per_url, their_per_url = ours / PARTS, theirs / BOTOCORE_URLS
    result = {
        "benchmark": "signing",
        "parts": PARTS,
        "cpu_seconds_10000_parts": round(ours, 4),
        "urls_per_second": round(1 / per_url),
        "microseconds_per_url": round(per_url * 1e6, 2),
        "botocore_urls_per_second": round(1 / their_per_url),
        "botocore_microseconds_per_url": round(their_per_url * 1e6, 2),
        "times_cheaper": round(their_per_url / per_url, 1),
    }
    print(json.dumps(result))
    print(
        f"signing: {result['urls_per_second']:,} URLs/s, {result['microseconds_per_url']} µs each; 10,000 parts in "
        f"{ours:.3f} s of CPU; {result['times_cheaper']} times cheaper than botocore's presigner in the same run"
    )


if __name__ == "__main__":
    main()
