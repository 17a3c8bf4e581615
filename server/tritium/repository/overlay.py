"""A model folder made of the files that a load request carries."""

import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath


class Overlay:
    """A folder with the given files, by path relative to the model's directory; gone when closed.

    Raises:
        ValueError: a path leads out of the folder.
        OSError: a file cannot be written.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="tritium-model-")
        self.folder = Path(self._home.name)
        try:
            for name, content in files.items():
                self._write(name, content)
        except BaseException:
            self.close()
            raise

    def _write(self, name: str, content: bytes) -> None:
        path = PurePosixPath(name.lstrip("/"))  # Triton joins paths: a leading slash changes nothing
        if not path.name or ".." in path.parts:
            raise ValueError(f"file '{name}' must lie within the model's directory, as file:1/model.py does")
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def close(self) -> None:
        """Delete the folder."""
        self._home.cleanup()
