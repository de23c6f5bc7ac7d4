from __future__ import annotations

import subprocess
import sys


def test_the_decision_needs_no_cluster() -> None:
    """What decides can be read, tested and trusted without knowing any client of Kubernetes, or any I/O at all."""
    program = (
        "import sys; import putgate_operator.reconcile; "
        "print(*sorted({'kubernetes', 'kopf', 'aiohttp', 'structlog'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
