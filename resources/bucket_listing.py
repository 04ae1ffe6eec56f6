"""What lies in a bucket: listings in pages, seen as folders and names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

import obstore

from resources.bucket_requests import Connection
from resources.object_keys import checked_key, hidden, joined, literal_head, matches, unfinished
from resources.object_store import Listed

PAGE = 1000
"""Objects that S3 tells at a time."""


@dataclass(frozen=True, slots=True)
class BucketListing:
    """Listings under a prefix of a bucket; keys are relative to it."""

    connection: Connection
    prefix: str

    def keys(self, prefix: str) -> list[str]:
        """The keys of the objects and folders directly under a prefix, sorted, without hidden ones."""
        objects, folders = self._directly(prefix)
        return sorted({listed.key for listed in objects} | set(folders))

    def folders(self, prefix: str) -> list[str]:
        """The keys of the folders directly under a prefix, sorted, without hidden ones."""
        return self._directly(prefix)[1]

    def versions(self, prefix: str) -> dict[str, str]:
        """The names and versions of the objects directly under a prefix, without hidden ones."""
        return {PurePosixPath(listed.key).name: listed.version for listed in self._directly(prefix)[0]}

    def under(self, prefix: str) -> list[Listed]:
        """All objects under a prefix, sorted, hidden ones included."""
        path = self._path(prefix)

        def every(client: obstore.store.S3Store) -> list[obstore.ObjectMeta]:
            return [found for page in obstore.list(client, path, chunk_size=PAGE) for found in page]

        found = self.connection.asked(self._place(path), every)
        return sorted(_without_markers([self._listed(meta) for meta in found]), key=lambda listed: listed.key)

    def any_under(self, prefix: str) -> bool:
        """Is there an object under a prefix? One page at most."""
        path = self._path(prefix)
        page = self.connection.asked(
            self._place(path), lambda client: next(iter(obstore.list(client, path, chunk_size=1)), [])
        )
        return bool(page)

    def matching(self, pattern: str) -> list[Listed]:
        """The objects that match a glob, sorted, without hidden ones and unfinished copies."""
        head, rest = literal_head(checked_key(pattern, self._place(self.prefix)).as_posix())
        found = self._directly(head)[0] if len(rest) == 1 else self.under(head)
        skipped = len(PurePosixPath(head).parts)
        return [
            listed
            for listed in found
            if not hidden(listed.key)
            and not unfinished(listed.key)
            and matches(PurePosixPath(listed.key).parts[skipped:], rest)
        ]

    def _directly(self, prefix: str) -> tuple[list[Listed], list[str]]:
        path = self._path(prefix)
        found = self.connection.asked(
            self._place(path), lambda client: obstore.list_with_delimiter(client, path or None)
        )
        objects = (self._listed(meta) for meta in found["objects"])
        folders = (joined(prefix, PurePosixPath(folder).name) for folder in found["common_prefixes"])
        shown = [listed for listed in objects if not PurePosixPath(listed.key).name.startswith(".")]
        named = sorted(folder for folder in folders if not PurePosixPath(folder).name.startswith("."))
        return sorted(shown, key=lambda listed: listed.key), named

    def _listed(self, meta: obstore.ObjectMeta) -> Listed:
        key = meta["path"][len(self.prefix) + 1 :] if self.prefix else meta["path"]
        modified = meta["last_modified"].timestamp()
        version = (meta["e_tag"] or f"{meta['size']}:{modified}").strip('"')
        return Listed(key, meta["size"], version, modified)

    def _path(self, prefix: str) -> str:
        inner = checked_key(prefix, self._place(self.prefix)).as_posix() if prefix else ""
        return "/".join(part for part in (self.prefix, "" if inner == "." else inner) if part)

    def _place(self, path: str) -> str:
        return f"s3://{self.connection.bucket}/{path}"


def _without_markers(found: list[Listed]) -> list[Listed]:
    """Without the empty objects `folder/` that S3's console makes for a folder; obstore tells them as `folder`."""
    if all(listed.size for listed in found):
        return found
    folders = {str(folder) for listed in found for folder in PurePosixPath(listed.key).parents}
    return [listed for listed in found if listed.size or listed.key not in folders]
