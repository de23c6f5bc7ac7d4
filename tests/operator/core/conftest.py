from __future__ import annotations

from hypothesis import settings

# A busy machine makes no example slow; what must be fast is measured elsewhere.
settings.register_profile("core", deadline=None)
settings.load_profile("core")
