"""`python -m putgate_api.contract PATH` writes the document as it is committed, for no server in particular."""

from __future__ import annotations

import sys
from pathlib import Path

from putgate_api.contract.document import DEFAULT_SERVER, document, text

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text(document(DEFAULT_SERVER)))
