from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.servers.kube import assets
from tests.servers.kube.control_plane import ADMIN, ISSUER, ControlPlane, require_programs


def config_map(namespace: str, name: str, **data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name}, "data": data}


def claims(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    parsed: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return parsed


def test_it_is_the_release_that_is_named(control_plane: ControlPlane) -> None:
    version = json.loads(control_plane.kubectl("version", "-ojson"))
    assert version["serverVersion"]["gitVersion"] == f"v{assets.KUBERNETES}"
    assert version["clientVersion"]["gitVersion"] == f"v{assets.KUBERNETES}"
    # Built as a module, Helm knows its minor version only.
    assert f"v{assets.HELM}".startswith(control_plane.helm("version", "--template", "{{.Version}}"))


def test_objects_outlive_the_api_server(control_plane: ControlPlane) -> None:
    namespace = control_plane.namespace("outlive")
    control_plane.apply(config_map(namespace, "kept", word="stays"))
    control_plane.restart_api_server()
    assert control_plane.get("-n", namespace, "configmap", "kept")["data"] == {"word": "stays"}
    assert control_plane.get("-n", namespace, "configmap", "other") is None


def test_the_audit_log_counts_who_did_what(control_plane: ControlPlane) -> None:
    namespace = control_plane.namespace("audited")
    mark = control_plane.mark()
    control_plane.apply(config_map(namespace, "seen", word="one"))
    control_plane.get("-n", namespace, "configmap", "seen")
    writes = control_plane.audit(user=ADMIN, verbs={"create", "update", "patch", "delete"}, since=mark)
    assert [(event.verb, event.resource, event.namespace, event.name) for event in writes] == [
        ("patch", "configmaps", namespace, "seen")
    ]
    reads = control_plane.audit(user=ADMIN, verbs={"get"}, since=mark)
    assert "seen" in {event.name for event in reads}
    assert control_plane.audit(user="nobody-of-this-name", since=mark) == []


def test_tokens_carry_their_audience_and_rights(control_plane: ControlPlane) -> None:
    namespace = control_plane.namespace("tokens")
    control_plane.kubectl("create", "serviceaccount", "-n", namespace, "uploader")
    token = control_plane.token(namespace, "uploader", "putgate.io/tokens/media", 600)
    assert claims(token)["aud"] == ["putgate.io/tokens/media"]
    assert claims(token)["iss"] == ISSUER
    own = control_plane.kubeconfig_for("uploader", control_plane.token(namespace, "uploader"))
    allowed = control_plane.kubectl(
        "auth", "can-i", "list", "secrets", "-n", namespace, f"--kubeconfig={own}", check=False
    )
    assert allowed.strip() == "no"


@pytest.mark.slow
def test_controllers_run_when_asked_for(tmp_path: Path) -> None:
    own = ControlPlane(require_programs(), tmp_path / "kube")
    try:
        own.start()
        assert own.get("-n", "default", "serviceaccount", "default") is None
        own.start_controllers()
        own.start_controllers()
        namespace = own.namespace("controlled")
        assert own.get("-n", namespace, "serviceaccount", "default")
        own.stop()
        own.start()
        assert own.get("namespace", namespace)
    finally:
        own.kill()


def test_missing_programs_are_named_with_the_command_that_builds_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.delenv("PUTGATE_KUBE_ASSETS", raising=False)
    monkeypatch.delenv("PUTGATE_REQUIRE_ALL", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"etcd.*make kube-assets"):
        require_programs()
    monkeypatch.setenv("PUTGATE_REQUIRE_ALL", "1")
    with pytest.raises(pytest.fail.Exception, match="make kube-assets"):
        require_programs()
