"""A server that is not installed: a skip that says how to get it, or a failure where everything is required."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """`reason`: what is needed and the command that brings it."""
    if os.environ.get("PUTGATE_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
