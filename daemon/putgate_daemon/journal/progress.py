"""The engine's progress store, kept in the journal: how far the uploads of large files have come."""

from __future__ import annotations

from dataclasses import dataclass

from putgate.upload.progress import Known
from putgate_daemon.journal.journal import Journal
from putgate_protocol.digests import Md5, PartHash
from putgate_protocol.names import Name


@dataclass(frozen=True, slots=True)
class JournalProgress:
    """Implements `putgate.upload.progress.Progress`."""

    journal: Journal

    async def load(self, name: Name) -> Known | None:
        asked = "SELECT change_key, part_size, part_hashes, upload_id, part_md5s FROM uploads WHERE name = ?"
        row = await self.journal.ask(lambda db: db.execute(asked, (name.raw,)).fetchone())
        if row is None:
            return None
        hashes = tuple(PartHash(row[2][at : at + 32]) for at in range(0, len(row[2]), 32))
        md5s = tuple(Md5(row[4][at : at + 16]) for at in range(0, len(row[4]), 16))
        return Known(change_key=row[0], part_size=row[1], part_hashes=hashes, upload_id=row[3], part_md5s=md5s)

    async def save(self, name: Name, known: Known) -> None:
        """Returns once it is committed: what is sent next may rely on it."""
        hashes, md5s = b"".join(known.part_hashes), b"".join(known.part_md5s)
        row = (name.raw, known.change_key, known.part_size, hashes, known.upload_id, md5s)
        await self.journal.ask(lambda db: db.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?, ?)", row))

    async def forget(self, name: Name) -> None:
        await self.journal.note(lambda db: db.execute("DELETE FROM uploads WHERE name = ?", (name.raw,)))
