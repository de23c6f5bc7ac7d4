from __future__ import annotations

import http.server
import threading
import urllib.error
import urllib.request

import pytest

from tests.servers.kube.waiting import until
from tests.servers.node.cluster import Cluster
from tests.servers.node.looking import Looker, condition
from tests.servers.node.manifests import container, pod, ready_probe, service, workload

pytestmark = pytest.mark.slow

READY = [{"name": "READY", "value": "1"}]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def test_a_deployment_serves_behind_its_service(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    main = container(readinessProbe=ready_probe(), env=READY)
    plane.apply(
        workload("Deployment", look.namespace, "web", main, replicas=2),
        service(look.namespace, "web"),
        pod(look.namespace, "asker"),
    )
    cluster.until_available(look.namespace, "web")
    names = {each["metadata"]["name"] for each in cluster.pods(look.namespace, "app=web")}
    with cluster.expose_service(look.namespace, "web", 80) as url:
        until("both have answered", lambda: names <= {get(f"{url}/who").split('"')[3] for _ in range(20)})
    with look.puppet("asker") as asker:
        short, long = "http://web/who", f"http://web.{look.namespace}.svc.cluster.local/who"
        assert asker("/fetch", url=short)["pod"] in names
        assert asker("/fetch", url=long)["pod"] in names
        # Endpoints are followed: unready ones are left alone, and without any the Service refuses.
        plane.kubectl("scale", "-n", look.namespace, "deployment/web", "--replicas=0")
        until("nobody answers", lambda: "refused" in str(asker("/fetch", url=short)))
        plane.kubectl("scale", "-n", look.namespace, "deployment/web", "--replicas=1")
        until("somebody answers again", lambda: isinstance(asker("/fetch", url=short), dict))
        assert "name resolution" in asker("/fetch", url="http://no-such-service/")


def test_pods_reach_each_other_and_the_api_server(cluster: Cluster, look: Looker) -> None:
    cluster.control_plane.apply(pod(look.namespace, "one"), pod(look.namespace, "two"))
    with look.puppet("one") as one, look.puppet("two"):
        two = look.until_running("two")["status"]["podIP"]
        assert one("/fetch", url=f"http://{two}:8080/who")["pod"] == "two"
        token = one.text("/var/run/secrets/kubernetes.io/serviceaccount/token")
        assert token.count(".") == 2
    ask = (
        "import json, os, ssl, urllib.request as u; f='/var/run/secrets/kubernetes.io/serviceaccount/';"
        "r=u.Request(f'https://kubernetes.default.svc/api/v1/namespaces/{os.environ[\"NS\"]}/pods',"
        "headers={'Authorization': 'Bearer '+open(f+'token').read()});"
        "c=ssl.create_default_context(cafile=f+'ca.crt');\n"
        "try: u.urlopen(r, context=c)\n"
        "except u.HTTPError as e: print(json.load(e)['message'], file=open('/dev/termination-log', 'w'))"
    )
    env = [{"name": "NS", "value": look.namespace}]
    cluster.control_plane.apply(
        pod(look.namespace, "asks", container(command=["python", "-c", ask], env=env), restartPolicy="Never")
    )
    until("its end", lambda: "terminated" in look.main("asks").get("state", {}))
    # The API server knows who asks, and RBAC is in force.
    said = look.main("asks")["state"]["terminated"]["message"]
    assert f'User "system:serviceaccount:{look.namespace}:default" cannot list resource "pods"' in said


def test_pods_reach_a_server_of_this_machine(cluster: Cluster, look: Looker) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'"from outside"')

        def log_message(self, *_: object) -> None:
            pass

    cluster.control_plane.apply(pod(look.namespace, "asker"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with look.puppet("asker") as asker:
            with cluster.forward_in(server.server_port) as address:
                assert asker("/fetch", url=f"http://{address}/") == "from outside"
            until("it is closed", lambda: "refused" in str(asker("/fetch", url=f"http://{address}/")))
        server.shutdown()
        thread.join()


def test_what_is_exposed_ends_with_its_block(cluster: Cluster, look: Looker) -> None:
    cluster.control_plane.apply(pod(look.namespace, "shown"))
    address = look.until_running("shown")["status"]["podIP"]
    with cluster.expose(address, 8080) as shown:
        until("it answers", lambda: answers(f"http://{shown}/who"))
    until("it is closed", lambda: not answers(f"http://{shown}/who"))


def answers(url: str) -> bool:
    try:
        return bool(get(url))
    except (urllib.error.URLError, ConnectionError):
        return False


def test_a_daemon_set_has_a_pod_and_a_host_folder_on_each_node(cluster: Cluster, look: Looker) -> None:
    mounts = [{"name": "logs", "mountPath": "/var/log/app", "readOnly": True}, {"name": "own", "mountPath": "/journal"}]
    volumes = [
        {"name": "logs", "hostPath": {"path": "/var/log/app", "type": "Directory"}},
        {"name": "own", "hostPath": {"path": "/var/lib/journal", "type": "DirectoryOrCreate"}},
    ]
    nodes = [each["metadata"]["name"] for each in cluster.control_plane.items("nodes")]
    assert len(nodes) > 1
    main = container(volumeMounts=mounts)
    cluster.control_plane.apply(workload("DaemonSet", look.namespace, "daemon", main, template={"volumes": volumes}))
    until("the folders are missed", lambda: len(cluster.events(look.namespace, "FailedMount")) == len(nodes))
    for node in nodes:
        folder = cluster.host(node) / "var/log/app"
        folder.mkdir(parents=True)
        (folder / "name").write_text(node)
    cluster.control_plane.kubectl("rollout", "status", "-n", look.namespace, "daemonset/daemon", "--timeout=60s")
    pods = cluster.pods(look.namespace)
    assert sorted(each["spec"]["nodeName"] for each in pods) == sorted(nodes)
    for each in pods:
        node = each["spec"]["nodeName"]
        with look.puppet(each["metadata"]["name"]) as puppet:
            assert puppet.text("/var/log/app/name") == node
            assert puppet("/write", path="/var/log/app/name", text="x") == "Read-only file system"
            assert puppet("/write", path="/journal/seen", text=node) == "written"
        assert (cluster.host(node) / "var/lib/journal/seen").read_text() == node


def test_a_pod_without_a_fitting_node_is_unschedulable(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    plane.apply(pod(look.namespace, "choosy", nodeSelector={"disk": look.namespace}))

    def waits() -> bool:
        pod = look.pod("choosy")
        return pod is not None and condition(pod, "PodScheduled").get("reason") == "Unschedulable"

    until("it is unschedulable", waits)
    plane.kubectl("label", "node", "node-2", f"disk={look.namespace}")
    live = look.until_running("choosy")
    assert live["spec"]["nodeName"] == "node-2"
    assert condition(live, "PodScheduled")["status"] == "True"


def test_pods_can_be_kept_pending(cluster: Cluster, look: Looker) -> None:
    with cluster.misbehaving("pending", look.namespace, "kept"):
        cluster.control_plane.apply(pod(look.namespace, "kept"), pod(look.namespace, "other"))
        look.until_running("other")
        kept = look.pod("kept")
        assert kept is not None
        assert condition(kept, "PodScheduled")["reason"] == "Unschedulable"
    look.until_running("kept")


def test_images_can_be_refused_for_a_while(cluster: Cluster, look: Looker) -> None:
    def waits_for() -> str | None:
        reason: str | None = look.main("refused").get("state", {}).get("waiting", {}).get("reason")
        return reason

    with cluster.misbehaving("unpullable", look.namespace, "refused"):
        cluster.control_plane.apply(pod(look.namespace, "refused"), pod(look.namespace, "other"))
        look.until_running("other")
        until("the pull is backed off", lambda: waits_for() == "ImagePullBackOff")
        assert cluster.events(look.namespace, "Failed")
    look.until_running("refused")
    assert look.main("refused")["restartCount"] == 0


def test_pods_can_hang(cluster: Cluster, look: Looker) -> None:
    main = container(readinessProbe=ready_probe(failureThreshold=1), env=READY)
    cluster.control_plane.apply(pod(look.namespace, "hanging", main))
    look.until_ready("hanging")
    with cluster.misbehaving("hang", look.namespace):
        until("it is unready", lambda: not look.main("hanging")["ready"])
        assert look.main("hanging")["restartCount"] == 0
    look.until_ready("hanging")


def test_pods_can_fail(cluster: Cluster, look: Looker) -> None:
    cluster.control_plane.apply(pod(look.namespace, "failing", container(readinessProbe=ready_probe(), env=READY)))
    look.until_ready("failing")
    with cluster.misbehaving("fail", look.namespace):
        until("restarts", lambda: look.main("failing")["restartCount"] > 1)
        assert look.main("failing")["lastState"]["terminated"]["exitCode"] == 137
    look.until_ready("failing")


def test_a_program_can_be_killed_once(cluster: Cluster, look: Looker) -> None:
    cluster.control_plane.apply(pod(look.namespace, "killed"))
    look.until_running("killed")
    cluster.kill(look.namespace, "killed", "main")
    until("the restart", lambda: look.main("killed")["restartCount"] == 1)


def test_an_outage_of_the_api_server_is_survived(cluster: Cluster, look: Looker) -> None:
    plane = cluster.control_plane
    plane.apply(pod(look.namespace, "survivor", container(readinessProbe=ready_probe(), env=READY)))
    look.until_ready("survivor")
    plane.restart_api_server()
    with look.puppet("survivor") as puppet:
        puppet("/unready")
        until("the status is told again", lambda: not look.main("survivor")["ready"])
    assert look.main("survivor")["restartCount"] == 0
