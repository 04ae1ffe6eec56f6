"""The project folder of a side: a folder of this machine, or a prefix of a bucket on a server of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resources.stores import open_store
from tests.benchmarks.peer.measure import emptied, space_of


@dataclass(frozen=True)
class Home:
    """`folder` holds what must be local: project files, logs, and of a `bucket` (s3://name) copies to be compared."""

    folder: Path
    bucket: str | None = None

    @property
    def address(self) -> str:
        """What a project file calls it."""
        return f"{self.bucket}/{self.folder.name}" if self.bucket else str(self.folder)

    def clear(self) -> None:
        """Begin anew, with nothing."""
        emptied(self.folder)
        if self.bucket:
            open_store(self.address).delete_folder("")

    def put(self, key: str, source: Path) -> None:
        """Put a file there."""
        open_store(self.address).put_file(key, source)

    def show(self, key: str, source: Path) -> None:
        """Have a folder of files there, which neither side writes to: a link, or copies in a bucket."""
        if not self.bucket:
            (self.folder / key).symlink_to(source)
            return
        for path in sorted(source.rglob("*")):
            if path.is_file():
                self.put(f"{key}/{path.relative_to(source).as_posix()}", path)

    def fetch(self, prefix: str) -> None:
        """Copy what lies under a prefix of a bucket into the local folder, at the same place."""
        if not self.bucket:
            return
        store = open_store(self.address)
        for listed in store.under(prefix):
            target = self.folder / listed.key
            target.parent.mkdir(parents=True, exist_ok=True)
            store.fetch(listed.key, target)

    def space(self) -> tuple[int, int]:
        """Bytes and objects; what is only linked is not counted."""
        if not self.bucket:
            return space_of(self.folder)
        found = open_store(self.address).under("")
        return sum(listed.size for listed in found), len(found)
