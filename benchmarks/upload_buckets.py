"""Hundreds of UploadBuckets at once: time until all are ready, requests of the operator for each, and its memory.

On a real control plane; pods are only said to run, so what is measured is the operator, the API server and its
controllers. `PUTGATE_BUCKETS` and `PUTGATE_NAMESPACES` change the size.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.operator.plane.operators import CRDS, Home, upload_bucket
from tests.servers.kube import assets
from tests.servers.kube.control_plane import ControlPlane
from tests.servers.kube.light_nodes import LightNodes

BUCKETS = int(os.environ.get("PUTGATE_BUCKETS", "500"))
NAMESPACES = int(os.environ.get("PUTGATE_NAMESPACES", "50"))
PATIENCE = 1800.0


def ready(home: Home) -> int:
    listed = home.plane.items("uploadbucket", "--all-namespaces")
    conditions = (each.get("status", {}).get("conditions", ()) for each in listed)
    return sum(any(c["type"] == "Ready" and c["status"] == "True" for c in found) for found in conditions)


def peak_memory(pid: int) -> float:
    """The most that a process has held, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(plane: ControlPlane, folder: Path) -> dict[str, object]:
    home = Home(plane=plane, namespace=plane.namespace("operator"), folder=folder)
    namespaces = [plane.namespace(f"n{number}") for number in range(NAMESPACES)]
    operator = home.operator(everywhere=True)
    assert operator.process is not None
    try:
        mark = plane.mark()
        started = time.monotonic()
        places = [(namespaces[number % NAMESPACES], f"b{number}") for number in range(BUCKETS)]
        for first in range(0, BUCKETS, 100):
            plane.apply(*(upload_bucket(*place) for place in places[first : first + 100]))
        while ready(home) < BUCKETS:
            assert time.monotonic() - started < PATIENCE
            time.sleep(1)
        seconds = time.monotonic() - started
        events = [event for event in plane.audit(user=home.user, since=mark) if event.resource != "leases"]
        verbs = Counter(f"{event.verb} {event.resource}" for event in events)
        return {
            "benchmark": "upload_buckets",
            "buckets": BUCKETS,
            "namespaces": NAMESPACES,
            "seconds_until_all_ready": round(seconds, 1),
            "requests_per_bucket": round(len(events) / BUCKETS, 1),
            "requests": dict(verbs.most_common(12)),
            "operator_cpu_seconds": round(cpu_seconds(operator.process.pid), 1),
            "operator_peak_mib": round(peak_memory(operator.process.pid), 1),
        }
    finally:
        operator.kill()


def main() -> None:
    programs = assets.find()
    assert set(assets.PROGRAMS) <= set(programs), f"needs a Kubernetes control plane: {assets.HOW}"
    with tempfile.TemporaryDirectory() as folder:
        plane = ControlPlane(programs, Path(folder) / "kube")
        plane.start()
        try:
            plane.kubectl("apply", "--server-side", "-f", str(CRDS))
            plane.start_controllers()
            with LightNodes(plane):
                result = measure(plane, Path(folder))
        finally:
            plane.kill()
    print(json.dumps(result))
    print(
        f"{BUCKETS} UploadBuckets in {NAMESPACES} namespaces ready after {result['seconds_until_all_ready']} s, "
        f"{result['requests_per_bucket']} requests each, {result['operator_peak_mib']} MiB"
    )


if __name__ == "__main__":
    main()
