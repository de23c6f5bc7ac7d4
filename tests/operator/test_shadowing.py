"""The folder `operator/` at the root holds a package; it must never become one and hide the standard library's."""

from __future__ import annotations

import operator
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STDLIB = Path(sysconfig.get_paths()["stdlib"])


def test_operator_is_the_standard_library_s() -> None:
    assert Path(operator.__file__) == STDLIB / "operator.py"
    assert operator.itemgetter(1)("ab") == "b"


@pytest.mark.parametrize("arguments", [["-c", "{}"], ["-P", "-c", "{}"], ["-"]], ids=["c", "safe-path", "stdin"])
def test_operator_is_the_standard_library_s_in_a_program_started_at_the_root(arguments: list[str]) -> None:
    code = "import operator; print(operator.__file__)"
    found = subprocess.run(
        [sys.executable, *[argument.format(code) for argument in arguments]],
        cwd=ROOT,
        input=code,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == STDLIB / "operator.py"


def test_the_operator_s_own_package_is_found_beside_it() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "import operator, putgate_operator; print(putgate_operator.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == ROOT / "operator" / "putgate_operator" / "__init__.py"
