"""What stops `putgate dev`."""

from __future__ import annotations


class DevError(Exception):
    """`putgate dev` cannot start, or cannot go on. The message says why, and what to do."""
