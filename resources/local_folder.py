"""A folder of this machine as an object store: links, locks and renames make its objects whole and its swaps atomic."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from eo_assets.errors import StoreError
from resources.object_keys import checked_key, hidden, joined, unfinished
from resources.object_store import Listed
from resources.storage_faults import storage_told


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of this machine as an object store. Small, immutable and picklable.

    `swap` is atomic between processes of one machine (a lock file beside the object); readers never see half an object.
    """

    root: Path

    def path(self, key: str) -> Path:
        """Where the object lies. A key that leaves the root is a StoreError."""
        return self.root / checked_key(key, self.root)

    def place(self, key: str = "") -> str:
        """The path of an object, as text."""
        return str(self.path(key))

    def get(self, key: str) -> bytes | None:
        """The object's bytes, None when it does not exist."""
        try:
            with storage_told(self.root):
                return self.path(key).read_bytes()
        except FileNotFoundError:
            return None

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """A part of an object's bytes, shorter where the object ends. One that does not exist is a StoreError."""
        with self._told_missing(key), storage_told(self.root), self.path(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def fetch(self, key: str, target: Path) -> None:
        """The object as another local file, which appears whole or not at all."""
        with self._told_missing(key):
            _copied(self.path(key), target)

    def put(self, key: str, data: bytes) -> None:
        """Replace or create the object: readers see the old bytes or the new."""
        with storage_told(self.root):
            temporary = self._write_beside(key, data)
            try:
                temporary.replace(self.path(key))
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            _sync_folder(self.path(key).parent)

    def create(self, key: str, data: bytes) -> bool:
        """Create the object if there is none; False, and nothing changed, if there is one."""
        with storage_told(self.root):
            temporary = self._write_beside(key, data)
            try:
                os.link(temporary, self.path(key))
            except FileExistsError:
                return False
            finally:
                temporary.unlink()
            _sync_folder(temporary.parent)
            return True

    def swap(self, key: str, data: bytes, expected: bytes | None) -> bool:
        """Replace the object only if its bytes still are `expected` (None: only if it does not exist)."""
        with storage_told(self.root), self._locked(key):
            if self.get(key) != expected:
                return False
            self.put(key, data)
        return True

    def check_conditions(self, key: str, data: bytes) -> None:
        """The system's links and locks hold what they promise."""

    @contextlib.contextmanager
    def exclusive(self, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a key against other processes of this machine; `waiting` is called once if somebody else holds it.

        The system gives it back when the holder dies, however it dies.
        """
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / f".{target.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def held(self, key: str) -> bool:
        """Does a living process hold this key (see `exclusive`)?"""
        target = self.path(key)
        try:
            with (target.parent / f".{target.name}.lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def unlock(self, key: str) -> None:
        """Remove what `exclusive` leaves behind, of a key that nobody will ever hold again."""
        target = self.path(key)
        (target.parent / f".{target.name}.lock").unlink(missing_ok=True)

    def put_file(self, key: str, source: Path) -> None:
        """Replace or create the object with the bytes of a file."""
        with storage_told(self.root):
            _copied(source, self.path(key))
            _sync_folder(self.path(key).parent)

    def copy(self, source: str, key: str) -> None:
        """Put an object under a second key, without copying its bytes where links work."""
        with self._told_missing(source), storage_told(self.root):
            _linked(self.path(source), self.path(key))

    def exists(self, key: str) -> bool:
        """Is there an object of this key, or a folder?"""
        return self.path(key).exists()

    def folders(self, prefix: str) -> list[str]:
        """The keys of the folders directly under a prefix, sorted; hidden ones are left out."""
        try:
            with storage_told(self.root), os.scandir(self.path(prefix)) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [joined(prefix, name) for name in names if not name.startswith(".")]

    def hidden(self, prefix: str) -> list[Listed]:
        """The hidden files directly under a prefix: locks, and what is being written."""
        found = self.path(prefix).glob(".*") if self.path(prefix).is_dir() else ()
        return [self._listed(path) for path in found if path.is_file()]

    def under(self, prefix: str) -> list[Listed]:
        """All objects under a prefix at any depth, sorted, hidden ones included."""
        found = []
        for path in self.path(prefix).rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # removed while it was listed
                if path.is_file():
                    found.append(self._listed(path))
        return sorted(found, key=lambda listed: listed.key)

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of the objects directly under a prefix, sorted; locks and temporary files are left out."""
        folder = self.path(prefix)
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return (joined(prefix, name) for name in names if not name.startswith("."))

    def versions(self, prefix: str) -> dict[str, str]:
        """The names of the objects directly under a prefix, with what changes whenever one is replaced: one listing."""
        try:
            # What is there and can't be listed is not nothing: imagery would be bought again.
            with storage_told(self.root), os.scandir(self.path(prefix)) as entries:
                states = {entry.name: entry.stat() for entry in entries if not entry.name.startswith(".")}
        except FileNotFoundError:
            return {}
        return {name: version_of(state) for name, state in states.items()}

    def matching(self, pattern: str) -> list[Listed]:
        """The objects whose keys match a glob, sorted; hidden ones, and what is still being copied, are left out."""
        found = []
        for path in sorted(self.root.glob(pattern)):
            key = path.relative_to(self.root).as_posix()
            if hidden(key) or unfinished(key) or not path.is_file():
                continue
            found.append(self._listed(path))
        return found

    def delete(self, key: str) -> None:
        """Remove an object; none there is no error."""
        self.path(key).unlink(missing_ok=True)

    def delete_folder(self, key: str) -> None:
        """Remove everything under a key; nothing there is no error."""
        shutil.rmtree(self.path(key), ignore_errors=True)

    def _listed(self, path: Path) -> Listed:
        state = path.stat()
        key = path.relative_to(self.root).as_posix()
        return Listed(key, state.st_size, version_of(state), state.st_mtime)

    @contextlib.contextmanager
    def _told_missing(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise StoreError(f"{self.path(key)} does not exist") from None

    def _write_beside(self, key: str, data: bytes) -> Path:
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not `tempfile`: its files are private to their owner, and a project folder is shared as far as the umask says.
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            # Half an object is of no use to anybody, least of all on a full disk.
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        return temporary

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / f".{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def version_of(state: os.stat_result) -> str:
    """Another text whenever a file's bytes, or who may read them, may have changed."""
    return f"{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}:{state.st_ino}"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        shutil.copyfile(source, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _linked(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        os.link(source, temporary)
    except FileNotFoundError:
        raise
    except OSError:
        _copied(source, target)
        return
    temporary.replace(target)
    # Renaming one link of a file over another link of it does nothing at all.
    temporary.unlink(missing_ok=True)
