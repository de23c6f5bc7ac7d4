"""The installed chart, for every test of this folder that asks for it."""

from tests.e2e.installed import installed

__all__ = ["installed"]
