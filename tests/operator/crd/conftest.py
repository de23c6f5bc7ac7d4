"""The CustomResourceDefinition on the real API server, and the plain HTTP calls that try it."""

from __future__ import annotations

import copy
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.operator.crd.definition import DEFINITION
from tests.servers.kube.control_plane import ControlPlane


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`causes`: what the API server has against an object, as `field: message`."""

    code: int
    body: dict[str, Any]

    @property
    def causes(self) -> list[str]:
        found = self.body.get("details", {}).get("causes", ())
        return [f"{cause.get('field', '')}: {cause['message']}" for cause in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadBuckets:
    """Calls to the API server about the UploadBuckets of one namespace. Unknown fields are refused."""

    url: str
    token: str
    context: ssl.SSLContext
    namespace: str
    kind: str = "UploadBucket"

    @classmethod
    def of(cls, plane: ControlPlane, namespace: str, kind: str = "UploadBucket") -> UploadBuckets:
        config = yaml.safe_load(plane.kubeconfig.read_text())
        return cls(
            url=plane.url,
            token=config["users"][0]["user"]["token"],
            context=ssl.create_default_context(cafile=str(plane.ca_file)),
            namespace=namespace,
            kind=kind,
        )

    def create(self, body: dict[str, Any], *, dry_run: bool = False) -> Answer:
        return self._call("POST", "", body, dry_run=dry_run)

    def replace(self, name: str, body: dict[str, Any], *, dry_run: bool = False) -> Answer:
        return self._call("PUT", f"/{name}", body, dry_run=dry_run)

    def delete(self, name: str) -> Answer:
        return self._call("DELETE", f"/{name}", None)

    def _call(self, method: str, path: str, body: dict[str, Any] | None, *, dry_run: bool = False) -> Answer:
        url = f"{self.url}/apis/putgate.io/v1alpha1/namespaces/{self.namespace}/{self.kind.lower()}s{path}"
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        request = urllib.request.Request(
            url + query,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.context) as answer:
                return Answer(code=answer.status, body=json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(code=error.code, body=json.load(error))


@pytest.fixture(scope="session")
def defined(control_plane: ControlPlane) -> ControlPlane:
    """A control plane that knows UploadBuckets."""
    return _define(control_plane, DEFINITION)


@pytest.fixture(scope="session")
def uploadbuckets(defined: ControlPlane) -> UploadBuckets:
    return UploadBuckets.of(defined, defined.namespace("crd"))


@pytest.fixture(scope="session")
def later_uploadbuckets(control_plane: ControlPlane) -> UploadBuckets:
    """As they will be when `layout` has another value: rules about what cannot be said yet hold already."""
    kind = "LaterUploadBucket"
    definition = copy.deepcopy(DEFINITION)
    definition["metadata"]["name"] = f"{kind.lower()}s.putgate.io"
    definition["spec"]["names"] = {"kind": kind, "plural": f"{kind.lower()}s"}
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["layout"]["enum"].append("Content")
    return UploadBuckets.of(_define(control_plane, definition), control_plane.namespace("crd-later"), kind)


def _define(plane: ControlPlane, definition: dict[str, Any]) -> ControlPlane:
    text = yaml.safe_dump(definition)
    plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text)
    plane.kubectl("wait", "--for=condition=Established", "--timeout=120s", "-f", "-", input=text)
    return plane
