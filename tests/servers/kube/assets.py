"""The programs of a real Kubernetes control plane, built once from Go modules into a cache folder.

`make kube-assets` runs this module; the tests only ask `find`. There is no other source of these programs that works
without a container engine: only some are published as binaries, and none as packages.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

from tests.servers.go import GO, cache, go_binary, install, run, say, timed

KUBERNETES = "1.37.2"
ETCD = "3.6.5"
HELM = "4.3.1"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm")
HOW = "make kube-assets"

_KUBERNETES_PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kubectl")


def cache_folder() -> Path:
    """Where this version's programs are built: outside the tree, shared by all checkouts."""
    return cache() / f"kube-{KUBERNETES}-etcd-{ETCD}-helm-{HELM}"


def find() -> dict[str, Path]:
    """Every program that is there, by name.

    Looked for in PUTGATE_KUBE_ASSETS, in KUBEBUILDER_ASSETS (users of envtest have one, with three of the five), in
    the cache folder, in this order.
    """
    named = [os.environ.get(variable) for variable in ("PUTGATE_KUBE_ASSETS", "KUBEBUILDER_ASSETS")]
    folders = [*(Path(folder) for folder in named if folder), cache_folder()]
    found: dict[str, Path] = {}
    for program in PROGRAMS:
        for folder in folders:
            if os.access(folder / program, os.X_OK):
                found[program] = folder / program
                break
    return found


def build() -> None:
    """Build what is missing. Raises `subprocess.CalledProcessError` when a build fails."""
    missing = [program for program in PROGRAMS if program not in find()]
    if not missing:
        say("the programs are all there:", *(str(path) for path in find().values()))
        return
    target = cache_folder()
    target.mkdir(parents=True, exist_ok=True)
    go = go_binary()
    # Beside the target, so that a finished program appears by one rename: two builds at once do no harm.
    with tempfile.TemporaryDirectory(dir=target, prefix=".build-") as folder:
        work = Path(folder)
        if wanted := [program for program in _KUBERNETES_PROGRAMS if program in missing]:
            timed(f"kubernetes {KUBERNETES}: {', '.join(wanted)}", lambda: _kubernetes(go, work / "kubernetes", wanted))
        if "etcd" in missing:
            timed(f"etcd {ETCD}", lambda: _etcd(go, work / "etcd"))
        if "helm" in missing:
            timed(f"helm {HELM}", lambda: install(go, f"helm.sh/helm/v4/cmd/helm@v{HELM}", work / "helm"))
        for program in missing:
            (next(work.glob(f"*/out/{program}"))).replace(target / program)
    say("built into", str(target))


def _kubernetes(go: Path, work: Path, programs: list[str]) -> None:
    minor_patch = KUBERNETES.split(".", 1)[1]
    module = f"k8s.io/kubernetes@v{KUBERNETES}"
    work.mkdir()
    _write_module(
        work, "kubernetes", f"k8s.io/kubernetes v{KUBERNETES}", [f"k8s.io/kubernetes/cmd/{p}" for p in programs]
    )
    described = json.loads(run(go, "mod", "download", "-json", module, folder=work, capture=True))
    # Its staging modules are released as v0.MINOR.PATCH, but its own go.mod names them by relative paths.
    staged = re.findall(r"^\s+(k8s\.io/[a-z-]+) => \./staging", Path(described["GoMod"]).read_text(), re.MULTILINE)
    with (work / "go.mod").open("a") as file:
        file.writelines(f"replace {name} => {name} v0.{minor_patch}\n" for name in staged)
    # Without a version the server calls itself v0.0.0, and Helm refuses charts that name the versions they need.
    version = "k8s.io/component-base/version"
    flags = [
        "-s -w",
        f"-X {version}.gitVersion=v{KUBERNETES}",
        f"-X {version}.gitMajor={KUBERNETES.split('.', maxsplit=1)[0]}",
        f"-X {version}.gitMinor={minor_patch.split('.')[0]}",
    ]
    run(go, "mod", "tidy", folder=work)
    run(go, "build", "-trimpath", "-ldflags", " ".join(flags), "-o", f"{work}/out/",
        *(f"k8s.io/kubernetes/cmd/{program}" for program in programs), folder=work)  # fmt: skip


def _etcd(go: Path, work: Path) -> None:
    server = "go.etcd.io/etcd/server/v3"
    work.mkdir()
    _write_module(work, "etcd", f"{server} v{ETCD}", [server])
    run(go, "mod", "tidy", folder=work)
    run(go, "build", "-trimpath", "-ldflags", "-s -w", "-o", f"{work}/out/etcd", server, folder=work)


def _write_module(work: Path, name: str, requirement: str, tools: list[str]) -> None:
    lines = [f"module putgate-{name}", f"go {'.'.join(map(str, GO))}.0", f"require {requirement}"]
    (work / "go.mod").write_text("\n".join([*lines, *(f"tool {tool}" for tool in tools)]) + "\n")


if __name__ == "__main__":
    build()
