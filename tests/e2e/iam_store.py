"""A real SeaweedFS that manages access keys as a store's admin does: a user, keys that are made, and keys revoked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.servers.kube.waiting import until
from tests.servers.seaweedfs import SeaweedFS, require_weed

USER = "putgate"
_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}]}

Key = tuple[str, str]
"""Access key id and secret."""


class IamSeaweedFS(SeaweedFS):
    def _command(self) -> list[str]:
        return [*super()._command(), "-s3.iam.readOnly=false"]

    def make_user(self) -> None:
        self._iam("create_user", UserName=USER)
        self._iam("put_user_policy", UserName=USER, PolicyName="all", PolicyDocument=json.dumps(_ALL))

    def make_key(self) -> Key:
        """Another key of the user, in force when this returns."""
        made = self._iam("create_access_key", UserName=USER)["AccessKey"]
        key = made["AccessKeyId"], made["SecretAccessKey"]
        until("the key is in force", lambda: self.accepts(key))
        return key

    def revoke(self, key: Key) -> None:
        """Out of force when this returns."""
        self._iam("delete_access_key", UserName=USER, AccessKeyId=key[0])
        until("the key is out of force", lambda: not self.accepts(key))

    def accepts(self, key: Key) -> bool:
        client = self._client("s3", key)
        try:
            client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 403:
                raise
            return False
        finally:
            client.close()
        return True

    def _iam(self, operation: str, **values: str) -> dict[str, Any]:
        client = self._client("iam", (self.access_key, self.secret_key))
        try:
            answer: dict[str, Any] = getattr(client, operation)(**values)
            return answer
        finally:
            client.close()

    def _client(self, service: str, key: Key) -> Any:
        return botocore.session.Session().create_client(
            service,
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )


@contextmanager
def iam_seaweedfs(data: Path) -> Iterator[IamSeaweedFS]:
    server = IamSeaweedFS(require_weed(), data)
    server.start()
    try:
        server.make_user()
        yield server
    finally:
        server.kill()
