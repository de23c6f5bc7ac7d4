from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.servers.kube.waiting import until
from tests.servers.node.cluster import MISSING_IMAGE, Cluster
from tests.servers.node.looking import Looker, condition
from tests.servers.node.manifests import config_map, container, job, pod, ready_probe, secret, service

pytestmark = pytest.mark.slow


def visible(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith("..")]


def test_environment(cluster: Cluster, look: Looker) -> None:
    cluster.control_plane.apply(
        config_map(look.namespace, "words", plain="from a ConfigMap"),
        secret(look.namespace, "hidden", word="from a Secret"),
        service(look.namespace, "some-service"),
    )
    until("the Service", lambda: cluster.control_plane.get("-n", look.namespace, "service", "some-service"))

    def field(name: str, path: str) -> dict[str, Any]:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    env = [
        field("UID", "metadata.uid"),
        field("NODE", "spec.nodeName"),
        field("IP", "status.podIP"),
        field("LABEL", "metadata.labels['app']"),
        {"name": "PLAIN", "valueFrom": {"configMapKeyRef": {"name": "words", "key": "plain"}}},
        {"name": "HIDDEN", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "none", "key": "word", "optional": True}}},
        {"name": "MADE", "value": "$(POD_NAME) on $(NODE), $$(NODE), $(UNKNOWN)"},
    ]
    cluster.control_plane.apply(pod(look.namespace, "told", container(env=env)))
    with look.puppet("told") as puppet:
        seen = puppet("/env")
        assert puppet("/who")["host"] == "told"
    live = look.pod("told")
    assert live is not None
    node = live["spec"]["nodeName"]
    expected = {
        "POD_NAME": "told",
        "UID": live["metadata"]["uid"],
        "NODE": node,
        "IP": live["status"]["podIP"],
        "LABEL": "told",
        "PLAIN": "from a ConfigMap",
        "HIDDEN": "from a Secret",
        "MADE": f"told on {node}, $(NODE), $(UNKNOWN)",
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
        "SOME_SERVICE_SERVICE_PORT_HTTP": "80",
    }
    assert expected.items() <= seen.items()
    # Nothing of the machine's own environment leaks into a pod.
    assert not {"ABSENT", "PYTEST_CURRENT_TEST", "USER", "PWD"} & seen.keys()


def test_config_map_volume_is_swapped_when_it_changes(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    plane.apply(config_map(look.namespace, "rules", one="first", two="second"))
    mounts = [{"name": "rules", "mountPath": "/etc/putgate/rules"}]
    volumes = [{"name": "rules", "configMap": {"name": "rules"}}]
    plane.apply(pod(look.namespace, "reader", container(volumeMounts=mounts), volumes=volumes))
    with look.puppet("reader") as puppet:
        assert puppet.text("/etc/putgate/rules/one") == "first"
        assert puppet("/stat", path="/etc/putgate/rules/one")["link"] == "..data/one"
        before = puppet("/stat", path="/etc/putgate/rules/..data")["link"]
        plane.kubectl(
            "patch", "-n", look.namespace, "configmap", "rules", "--type=merge",
            "-p", json.dumps({"data": {"one": "changed", "two": None, "three": "third"}}),
        )  # fmt: skip
        until("the change", lambda: puppet.text("/etc/putgate/rules/one") == "changed", within=10)
        assert puppet.text("/etc/putgate/rules/three") == "third"
        assert puppet.text("/etc/putgate/rules/two") is None
        assert puppet("/stat", path="/etc/putgate/rules/..data")["link"] != before
        assert puppet("/write", path="/etc/putgate/rules/one", text="x") == "Read-only file system"


def test_secret_volume_with_items_appears_when_it_is_optional(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    items = [{"key": "accessKey", "path": "access-key-id"}, {"key": "token", "path": "deep/session-token"}]
    volume = {"secretName": "late", "items": items, "optional": True, "defaultMode": 0o440}
    mounts = [{"name": "keys", "mountPath": "/etc/putgate/credentials", "readOnly": True}]
    plane.apply(
        pod(
            look.namespace, "keyed", container(volumeMounts=mounts), volumes=[{"name": "keys", "secret": volume}]
        )
    )  # fmt: skip
    with look.puppet("keyed") as puppet:
        assert visible(puppet.text("/etc/putgate/credentials")) == []
        plane.apply(secret(look.namespace, "late", accessKey="abc", other="unseen"))
        until("the Secret", lambda: puppet.text("/etc/putgate/credentials/access-key-id") == "abc", within=10)
        assert puppet("/stat", path="/etc/putgate/credentials/access-key-id")["mode"] == "0o440"
        plane.apply(secret(look.namespace, "late", accessKey="def", token="t"))
        until("its item", lambda: puppet.text("/etc/putgate/credentials/deep/session-token") == "t", within=10)
        assert visible(puppet.text("/etc/putgate/credentials")) == ["access-key-id", "deep"]
        plane.kubectl("delete", "secret", "-n", look.namespace, "late")
        until("its end", lambda: puppet.text("/etc/putgate/credentials/access-key-id") is None, within=10)


def test_projected_volume_has_a_token_that_the_api_server_takes(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    plane.kubectl("create", "serviceaccount", "-n", look.namespace, "uploader")
    sources = [
        {"serviceAccountToken": {"path": "token", "audience": "putgate.io/x/y", "expirationSeconds": 3600}},
        {"serviceAccountToken": {"path": "apiserver", "expirationSeconds": 3600}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
    ]
    mounts = [{"name": "own", "mountPath": "/var/run/secrets/putgate", "readOnly": True}]
    plane.apply(
        pod(
            look.namespace,
            "bearer",
            container(volumeMounts=mounts),
            volumes=[{"name": "own", "projected": {"sources": sources}}],
            serviceAccountName="uploader",
            automountServiceAccountToken=False,
        )
    )
    with look.puppet("bearer") as puppet:
        token = puppet.text("/var/run/secrets/putgate/token")
        own = puppet.text("/var/run/secrets/putgate/apiserver")
        assert puppet.text("/var/run/secrets/putgate/labels") == 'app="bearer"'
        assert "BEGIN CERTIFICATE" in puppet.text("/var/run/secrets/putgate/ca.crt")
        assert puppet.text("/var/run/secrets/kubernetes.io") is None
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    live = look.pod("bearer")
    assert live is not None
    assert claims["aud"] == ["putgate.io/x/y"]
    assert claims["kubernetes.io"]["pod"]["uid"] == live["metadata"]["uid"]
    who = plane.kubectl("auth", "whoami", "-ojson", f"--kubeconfig={plane.kubeconfig_for('bearer', own)}")
    assert json.loads(who)["status"]["userInfo"]["username"] == f"system:serviceaccount:{look.namespace}:uploader"


def test_own_root(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    mounts = [{"name": "scratch", "mountPath": "/tmp"}]
    volumes = [{"name": "scratch", "emptyDir": {}}]
    locked = container(volumeMounts=mounts, securityContext={"readOnlyRootFilesystem": True})
    plane.apply(pod(look.namespace, "locked", locked, volumes=volumes), pod(look.namespace, "open"))
    with look.puppet("locked") as puppet:
        assert puppet("/write", path="/etc/putgate-test", text="x") == "Read-only file system"
        assert puppet("/write", path="/tmp/putgate-test", text="x") == "written"
        assert puppet.text("/tmp/putgate-test") == "x"
    with look.puppet("open") as puppet:
        assert puppet("/write", path="/etc/putgate-test", text="x") == "written"
        assert puppet.text("/etc/putgate-test") == "x"
        assert puppet.text("/tmp/putgate-test") is None
    assert not Path("/etc/putgate-test").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_user_and_group(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    plane.apply(secret(look.namespace, "keys", word="readable"))
    volumes = [{"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}}]
    main = container(volumeMounts=[{"name": "keys", "mountPath": "/etc/putgate/keys"}])
    context = {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001, "runAsNonRoot": True}
    plane.apply(pod(look.namespace, "modest", main, volumes=volumes, securityContext=context))
    with look.puppet("modest") as puppet:
        assert puppet("/who")["user"] == 10001
        assert puppet.text("/etc/putgate/keys/word") == "readable"
        assert puppet("/write", path="/etc/putgate-test", text="x") == "Permission denied"


def test_the_programs_of_this_checkout_are_the_image(cluster: Cluster, look: Looker) -> None:
    main = container(command=["putgate-api", "serve", "--config", "/etc/putgate/settings/settings.yaml"])
    main["securityContext"] = {"readOnlyRootFilesystem": True}
    context = {"runAsUser": 10001, "runAsGroup": 10001, "runAsNonRoot": True}
    cluster.control_plane.apply(
        pod(look.namespace, "api", main, restartPolicy="Never", securityContext=context),
    )
    until("its end", lambda: "terminated" in look.main("api").get("state", {}))
    ended = look.main("api")["state"]["terminated"]
    assert ended["reason"] == "Error"
    assert "/etc/putgate/settings/settings.yaml" in ended["message"], cluster.logs(look.namespace, "api", "main")


def test_readiness_follows_the_probe(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    main = container(
        startupProbe={"tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 60},
        readinessProbe=ready_probe(failureThreshold=1),
        livenessProbe={"exec": {"command": ["true"]}},
    )
    plane.apply(pod(look.namespace, "probed", main))
    with look.puppet("probed") as puppet:
        until("it is started", lambda: look.main("probed")["started"])
        assert not look.main("probed")["ready"]
        puppet("/ready")
        live = look.until_ready("probed")
        assert condition(live, "ContainersReady")["status"] == "True"
        puppet("/unready")
        until("it is unready", lambda: not look.main("probed")["ready"])
        assert look.main("probed")["restartCount"] == 0


def test_liveness_restarts(cluster: Cluster, look: Looker) -> None:
    liveness = ready_probe(failureThreshold=2)
    cluster.control_plane.apply(
        pod(look.namespace, "mortal", container(livenessProbe=liveness, env=[{"name": "READY", "value": "1"}]))
    )
    with look.puppet("mortal") as puppet:
        puppet("/unready")
        until("a restart", lambda: look.main("mortal")["restartCount"] == 1)
    assert look.main("mortal")["lastState"]["terminated"]["exitCode"] == 0
    assert "asked to end" in cluster.logs(look.namespace, "mortal", "main")


def test_crashes_back_off_and_keep_the_last_words(cluster: Cluster, look: Looker) -> None:
    words = "SettingsInvalid: no such bucket"
    command = ["sh", "-c", f"echo '{words}' > /dev/termination-log; exit 3"]
    cluster.control_plane.apply(pod(look.namespace, "crashing", container(command=command)))
    until(
        "the back-off",
        lambda: look.main("crashing").get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff",
    )
    main = look.main("crashing")
    assert main["lastState"]["terminated"]["exitCode"] == 3
    assert main["lastState"]["terminated"]["message"] == words + "\n"
    seen = main["restartCount"]
    until("more restarts", lambda: look.main("crashing")["restartCount"] > seen + 1)
    live = look.pod("crashing")
    assert live is not None
    assert live["status"]["phase"] == "Running"
    assert condition(live, "Ready")["reason"] == "ContainersNotReady"


def test_a_wrong_command_says_so(cluster: Cluster, look: Looker) -> None:
    cluster.control_plane.apply(pod(look.namespace, "wrong", container(command=["no-such-program", "serve"])))
    until("its end", lambda: "terminated" in look.main("wrong").get("lastState", {}))
    ended = look.main("wrong")["lastState"]["terminated"]
    assert ended["reason"] == "StartError"
    assert "no-such-program" in ended["message"]


def test_missing_image(cluster: Cluster, look: Looker) -> None:
    cluster.control_plane.apply(pod(look.namespace, "imageless", container(image=MISSING_IMAGE)))
    until(
        "the image is missed",
        lambda: look.main("imageless").get("state", {}).get("waiting", {}).get("reason") == "ImagePullBackOff",
    )
    assert MISSING_IMAGE in look.main("imageless")["state"]["waiting"]["message"]
    cluster.control_plane.kubectl("delete", "pod", "-n", look.namespace, "imageless", "--timeout=30s")


def test_missing_secret_keeps_a_pod_creating_until_it_comes(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    volumes = [{"name": "keys", "secret": {"secretName": "absent"}}]
    main = container(volumeMounts=[{"name": "keys", "mountPath": "/etc/keys"}])
    plane.apply(pod(look.namespace, "mounting", main, volumes=volumes))
    events = until("the event", lambda: cluster.events(look.namespace, "FailedMount"))
    assert 'secret "absent" not found' in events[0]["message"]
    assert look.main("mounting")["state"]["waiting"]["reason"] == "ContainerCreating"
    plane.apply(secret(look.namespace, "absent", word="here"))
    with look.puppet("mounting") as puppet:
        assert puppet.text("/etc/keys/word") == "here"


def test_missing_variable_keeps_a_container_waiting(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    env = [{"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "word"}}}]
    plane.apply(pod(look.namespace, "asking", container(env=env)))
    reason = "CreateContainerConfigError"
    until("it waits", lambda: look.main("asking").get("state", {}).get("waiting", {}).get("reason") == reason)
    plane.apply(config_map(look.namespace, "absent", word="here"))
    with look.puppet("asking") as puppet:
        assert puppet("/env")["WORD"] == "here"


def test_what_is_not_known_here_is_refused_by_name(cluster: Cluster, look: Looker) -> None:
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "none"}}]
    cluster.control_plane.apply(pod(look.namespace, "claiming", volumes=volumes))
    events = until("the refusal", lambda: cluster.events(look.namespace, "UnsupportedByStandIn"))
    assert "persistentVolumeClaim" in events[0]["message"]


def test_jobs_end_well_or_badly(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    once = "test -e /scratch/first || { touch /scratch/first; exit 1; }; echo done > /dev/termination-log"
    again = job(look.namespace, "again", container(command=["sh", "-c", once]), restart="OnFailure")
    inner = again["spec"]["template"]["spec"]
    inner["volumes"] = [{"name": "work", "emptyDir": {}}]
    inner["containers"][0]["volumeMounts"] = [{"name": "work", "mountPath": "/scratch"}]
    plane.apply(
        job(look.namespace, "good", container(command=["sh", "-c", "echo removed > /dev/termination-log"])),
        job(look.namespace, "bad", container(command=["sh", "-c", "exit 4"]), backoffLimit=0),
        again,
    )
    for name, kind in (("good", "Complete"), ("bad", "Failed"), ("again", "Complete")):
        plane.kubectl("wait", "-n", look.namespace, f"job/{name}", f"--for=condition={kind}", "--timeout=60s")
    ends = {
        each["metadata"]["labels"]["job-name"]: (each["status"]["phase"], each["status"]["containerStatuses"][0])
        for each in cluster.pods(look.namespace)
    }
    assert ends["good"][0] == "Succeeded"
    assert ends["good"][1]["state"]["terminated"]["message"] == "removed\n"
    assert ends["bad"][0] == "Failed"
    assert ends["bad"][1]["state"]["terminated"]["exitCode"] == 4
    assert ends["again"][0] == "Succeeded"
    assert ends["again"][1]["restartCount"] == 1


def test_init_containers_run_first(cluster: Cluster, look: Looker) -> None:
    first = container(command=["sh", "-c", "echo prepared > /scratch/word"]) | {"name": "first", "ports": []}
    mounts = [{"name": "work", "mountPath": "/scratch"}]
    first["volumeMounts"] = mounts
    cluster.control_plane.apply(
        pod(
            look.namespace,
            "prepared",
            container(volumeMounts=mounts),
            initContainers=[first],
            volumes=[{"name": "work", "emptyDir": {}}],
        )
    )
    with look.puppet("prepared") as puppet:
        assert puppet.text("/scratch/word") == "prepared\n"
    live = look.pod("prepared")
    assert live is not None
    assert condition(live, "Initialized")["status"] == "True"


def test_deletion_asks_first_and_kills_after_the_grace(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    stubborn = container(env=[{"name": "STUBBORN", "value": "1"}])
    plane.apply(
        pod(look.namespace, "polite", terminationGracePeriodSeconds=300), pod(look.namespace, "stubborn", stubborn)
    )
    for name in ("polite", "stubborn"):
        with look.puppet(name) as puppet:
            assert puppet("/who")["pod"] == name
        # A polite one does not take its 300 s, a stubborn one gets its 2 s.
        plane.kubectl("delete", "pod", "-n", look.namespace, name, "--timeout=60s")
        assert "asked to end" in cluster.logs(look.namespace, name, "main")


def test_a_forced_deletion_ends_the_program(cluster: Cluster, look: Looker) -> None:
    main = container(env=[{"name": "STUBBORN", "value": "1"}])
    cluster.control_plane.apply(pod(look.namespace, "forced", main))
    with look.puppet("forced") as puppet:
        cluster.control_plane.kubectl("delete", "pod", "-n", look.namespace, "forced", "--force", "--grace-period=0")
        until("it is gone", lambda: not puppet.answers())
