"""Local copies of models in an object store, one folder for each state that a model has been in.

CACHE/<repository>/<state>/<model>/...     <state> is made of the tags of all its objects

A model that has not changed is where it was, so nothing is downloaded or loaded again; one that has is put together
beside the old one, of whose files those that are still the same are linked, and appears whole or not at all.
Servers may share a cache: what one uses, it holds a lock on, and nobody deletes it.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from tritium.repository.cloud.bucket import Bucket, CloudError, CloudObject
from tritium.repository.layout import is_version

_MANIFEST = "manifest.json"
_DOWNLOADS = 8
"""Files of a model that are fetched at the same time."""


class Mirror:
    """The copies of the models of one repository; `folder` blocks while it downloads."""

    def __init__(self, bucket: Bucket, address: str, cache: Path) -> None:
        self._bucket = bucket
        self._home = cache / hashlib.sha256(address.encode()).hexdigest()[:16]
        self._held: dict[Path, int] = {}

    def folder(self, name: str) -> Path:
        """Return the folder of a model as it is now in the store.

        Raises:
            CloudError: the store cannot be reached, or the model is not there.
        """
        objects = [one for one in self._bucket.objects(name) if one.path.startswith(f"{name}/")]
        if not objects:
            raise CloudError(f"no files of model '{name}' in the store")
        state = hashlib.sha256(json.dumps([[one.path, one.size, one.tag] for one in objects]).encode()).hexdigest()
        place = self._home / state[:24]
        if not (place / _MANIFEST).exists():
            self._make(place, name, objects)
        self._hold(place)
        return place / name

    def prune(self, used: Collection[Path]) -> None:
        """Delete the copies that are not among these folders and that no other server uses."""
        kept = {folder.parent for folder in used}
        for place in list(self._home.iterdir()) if self._home.is_dir() else ():
            if place in kept or place.suffix == ".lock":
                continue
            if (held := self._held.pop(place, None)) is not None:
                os.close(held)
            _delete(place)

    def close(self) -> None:
        """Let other servers delete what this one has used."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _hold(self, place: Path) -> None:
        if place not in self._held:
            lock = os.open(_lock(place), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_SH)
            self._held[place] = lock

    def _make(self, place: Path, name: str, objects: Sequence[CloudObject]) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        known = self._known(name)
        with tempfile.TemporaryDirectory(dir=self._home, prefix=".new-") as made:
            root = Path(made, "state")
            (root / name).mkdir(parents=True)
            with ThreadPoolExecutor(_DOWNLOADS) as pool:
                for done in [pool.submit(self._put, root, one, known) for one in objects]:
                    done.result()
            manifest = {one.path: [one.size, one.tag] for one in objects}
            (root / _MANIFEST).write_text(json.dumps(manifest))
            try:
                root.rename(place)
            except OSError:
                if not (place / _MANIFEST).exists():  # another server may have made the same
                    raise

    def _put(self, root: Path, one: CloudObject, known: Mapping[tuple[str, int, str], Path]) -> None:
        path = PurePosixPath(one.path)
        if ".." in path.parts or path.is_absolute():
            raise CloudError(f"object '{one.path}' leads out of the repository")
        target = root / path
        if one.size == 0 and len(path.parts) == 2 and is_version(path.name):
            # Stores have no folders; an empty object of that name stands for one.
            target.mkdir(exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        same = known.get((one.path, one.size, one.tag))
        if same is not None and same.exists():
            os.link(same, target)
        else:
            self._bucket.fetch(one, target)

    def _known(self, name: str) -> dict[tuple[str, int, str], Path]:
        """Return the files of a model that were fetched before, by what they were then."""
        files = {}
        for place in self._home.iterdir():
            manifest = place / _MANIFEST
            if (place / name).is_dir() and manifest.exists():
                for path, (size, tag) in json.loads(manifest.read_text()).items():
                    files[path, size, tag] = place / path
        return files


def _lock(place: Path) -> Path:
    return place.parent / f"{place.name}.lock"


def _delete(place: Path) -> None:
    """Delete a copy unless another server holds it."""
    lock = os.open(_lock(place), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    else:
        shutil.rmtree(place, ignore_errors=True)
        _lock(place).unlink(missing_ok=True)
    finally:
        os.close(lock)
