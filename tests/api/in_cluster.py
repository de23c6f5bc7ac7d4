"""An API process as it runs in a cluster: with an identity, a claimant, swapped credential files, and a report."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from putgate_protocol.report import Report, ReportedCondition
from tests.servers.api import ApiProcess
from tests.servers.certificates import swap

NAMESPACE_UID = "0b6b8a5e-namespace"


def in_cluster(api: ApiProcess, name: str = "media", *, namespace_uid: str = NAMESPACE_UID) -> ApiProcess:
    """The settings as an operator writes them for an UploadBucket `name`."""
    api.settings["identity"] = {"uploadbucket_uid": f"uid-of-{name}", "settings_hash": "0123456789"}
    api.settings["storage"]["claimant"] = {"namespace_uid": namespace_uid, "namespace": "apps", "name": name}
    folder = api.folder / "credentials"
    api.settings["storage"]["s3"]["credentials"] = {
        "type": "Files",
        "access_key_id_file": str(folder / "access-key-id"),
        "secret_access_key_file": str(folder / "secret-access-key"),
    }
    give_credentials(api, api.store.access_key, api.store.secret_key)
    return api


def give_credentials(api: ApiProcess, access_key: str | None, secret_key: str | None) -> None:
    """As a kubelet does when the Secret changes: all files at once. None: without this key."""
    files = {"access-key-id": access_key, "secret-access-key": secret_key}
    swap(api.folder / "credentials", {name: value.encode() for name, value in files.items() if value is not None})


def report_of(api: ApiProcess) -> Report:
    with urllib.request.urlopen(f"{api.admin_url}/report", timeout=5) as answer:
        return Report.model_validate_json(answer.read())


def condition(report: Report, kind: str) -> ReportedCondition:
    (found,) = [each for each in report.conditions if each.type == kind]
    return found


def readyz(api: ApiProcess) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{api.admin_url}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def until_report(api: ApiProcess, good: Callable[[Report], bool], *, within: float = 60) -> Report:
    """The first report that is good."""
    deadline = time.monotonic() + within
    seen: object = None
    while time.monotonic() < deadline:
        try:
            found = report_of(api)
        except OSError as error:
            seen = error
        else:
            if good(found):
                return found
            seen = found.model_dump()
        assert api.process is not None
        assert api.process.poll() is None, api.log.read_text()[-4000:]
        time.sleep(0.05)
    raise TimeoutError(f"after {within} s the report was still {seen}\n{api.log.read_text()[-2000:]}")


def until_reason(api: ApiProcess, kind: str, reason: str, *, within: float = 60) -> ReportedCondition:
    return condition(until_report(api, lambda report: condition(report, kind).reason == reason, within=within), kind)


def until_ready(api: ApiProcess, *, within: float = 60) -> Report:
    return until_report(
        api,
        lambda report: report.state == "Ready" and condition(report, "BucketConfigured").status != "Unknown",
        within=within,
    )


def record(api: ApiProcess, name: str, client: Any) -> dict[str, Any]:
    """One of Putgate's own records, read behind its back."""
    key = f"{api.prefix}.putgate/v1/{name}"
    bucket = api.settings["storage"]["s3"]["bucket"]
    found: dict[str, Any] = json.loads(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    return found
