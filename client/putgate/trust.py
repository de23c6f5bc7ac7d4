"""Whose certificates are trusted: the system's, and beside them those of one file."""

from __future__ import annotations

import os
import ssl
from pathlib import Path


def trust(ca_file: str | os.PathLike[str]) -> ssl.SSLContext:
    """For the API and the store alike. Raises `OSError` where the file cannot be read, `ValueError` where it holds no
    certificate.
    """
    path = Path(ca_file).expanduser()
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise ValueError(f"{path} holds no certificates in PEM") from None
    return context
