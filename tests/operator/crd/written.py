"""Writes what follows from the CustomResourceDefinition: the chart's copy of it, and `docs/crds.md`.

python -m tests.operator.crd.written
"""

from __future__ import annotations

import json

from tests.operator.crd.definition import DEFINITION, PATH, VERSION, Field, fields, kind_of, rules

ROOT = PATH.parents[1]
CHART_COPY = ROOT / "charts" / "putgate" / "templates" / "crds" / PATH.name
DOCUMENT = ROOT / "docs" / "crds.md"

_NAME = f"metadata:\n  name: {DEFINITION['metadata']['name']}\n"

_LABELS = """\
  labels:
    {{- include "putgate.labels" . | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    # Uninstalling the release would otherwise delete every UploadBucket of the cluster.
    helm.sh/resource-policy: keep
  {{- end }}
"""

_ELSEWHERE = "as in a pod's spec"
"""What is described so is Kubernetes' own, and documented there."""


def chart_copy() -> str:
    """The file as a template: a switch around it, and the release's labels."""
    text = PATH.read_text()
    text = text[text.index("apiVersion:") :]
    if "{{" in text or text.count(_NAME) != 1:
        raise ValueError(f"{PATH} cannot be a template as it is")
    return f"{{{{- if .Values.crds.enabled }}}}\n{text.replace(_NAME, _NAME + _LABELS)}{{{{- end }}}}\n"


def document() -> str:
    names = DEFINITION["spec"]["names"]
    return "\n".join(
        [
            "# UploadBucket",
            "",
            "<!-- Written from crds/uploadbuckets.putgate.io.yaml; change that file. -->",
            "",
            VERSION["schema"]["openAPIV3Schema"]["description"],
            f"API `{DEFINITION['spec']['group']}/{VERSION['name']}`, kind `{names['kind']}`, namespaced.",
            f"`kubectl get {names['shortNames'][0]}` shows them.",
            "",
            "Sizes are quantities (`8Mi`, `5Gi`) or numbers of bytes; durations are written as `15m` or `1h30m`.",
            "",
            "## Spec",
            "",
            *_table("spec"),
            "",
            "## Rules",
            "",
            "What the API server refuses beside wrong types, values and lengths:",
            "",
            "| where | rule |",
            "|---|---|",
            *(f"| {f'`{at}`' if at else 'the object'} | {_cell(rule['message'])} |" for at, rule in rules()),
            "",
            "## Status",
            "",
            *_table("status"),
            "",
        ]
    )


def _table(part: str) -> list[str]:
    rows = ["| field | type | default | what |", "|---|---|---|---|"]
    elsewhere: list[str] = []
    for field in fields():
        hidden = field.path.endswith(("[]", "{}")) or field.path.startswith(tuple(elsewhere))
        if not field.path.startswith(f"{part}.") or hidden:
            continue
        if _ELSEWHERE in field.schema["description"]:
            elsewhere.append(field.path)
        rows.append(_row(field, part))
    return rows


def _row(field: Field, part: str) -> str:
    what, _, said = field.schema["description"].partition(" Default: ")
    values = field.schema.get("enum") or field.schema.get("items", {}).get("enum")
    if values:
        what += " One of " + ", ".join(f"`{value}`" for value in values) + "."
    default = field.schema.get("default")
    if part == "status":
        shown = ""
    elif field.required:
        shown = "required"
    elif default is None or default == {}:
        shown = said.removesuffix(".")
    else:
        shown = f"`{default if isinstance(default, str) else json.dumps(default)}`"
    return f"| `{field.path}` | {kind_of(field.schema)} | {_cell(shown)} | {_cell(what)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    for path, text in ((CHART_COPY, chart_copy()), (DOCUMENT, document())):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
