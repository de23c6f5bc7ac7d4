"""Every child's manifest as people read it. `python -m tests.operator.core.golden` writes the files anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from putgate_operator.desired.removal_job import removal_job
from putgate_operator.desired.settings import Keys, settings_file
from putgate_operator.resources import UploadBucket
from tests.operator.core.cluster import PLACE, Cluster
from tests.operator.core.made import FULL, MINIMAL, OPERATOR, upload_bucket

FOLDER = Path(__file__).parent / "golden"


def children(spec: dict[str, Any]) -> list[dict[str, Any]]:
    desired = Cluster(upload_bucket(spec)).reconcile()
    return [*(secret.manifest for secret in desired.create_secrets), *desired.apply]


def removal(spec: dict[str, Any]) -> list[dict[str, Any]]:
    bucket = UploadBucket.parse(upload_bucket(spec))
    keys = Keys(signing="0123456789", accepted=("0123456789",))
    return list(removal_job(bucket, OPERATOR, settings_file(bucket, PLACE, keys, OPERATOR)))


def made() -> dict[str, str]:
    """Text by file name."""
    documents = {
        "minimal.yaml": children(MINIMAL),
        "full.yaml": children(FULL),
        "removal-minimal.yaml": removal(MINIMAL),
        "removal-full.yaml": removal(FULL),
    }
    return {name: _text(each) for name, each in documents.items()}


class _Dumper(yaml.SafeDumper):
    """Files within files as blocks, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _string)


def _text(documents: list[dict[str, Any]]) -> str:
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in made().items():
        (FOLDER / name).write_text(text)
