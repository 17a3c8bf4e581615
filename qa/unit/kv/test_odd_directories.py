"""Links and pipes that stand under the names of a disk tier's files: nothing behind them is read or emptied."""

import os
from pathlib import Path

import pytest

from tritium.core.errors import InvalidArgument
from tritium.kv.inspection import clear_directory, look_into, verify
from tritium.kv.slab import Slab

SLOT_BYTES = 8192


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory that a store has made."""
    Slab(tmp_path / "tier", SLOT_BYTES, direct=False).close()
    return tmp_path / "tier"


@pytest.mark.parametrize("name", ["blocks.idx", "blocks.dat"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_of_a_store_is_left_alone(name: str, kind: str, directory: Path, tmp_path: Path) -> None:
    """`tritium kv clear` would empty what the link leads to, and wait for ever at a pipe."""
    mine = tmp_path / "mine"
    (directory / name).rename(mine)
    mine.write_bytes(mine.read_bytes() + b"more")
    before = mine.read_bytes()
    if kind == "link":
        (directory / name).symlink_to(mine)
    elif kind == "pipe":
        os.mkfifo(directory / name)
    else:
        (directory / name).mkdir()
    for action in (
        clear_directory,
        look_into,
        lambda one: list(verify(one)),
        lambda one: Slab(one, 8192, direct=False),
    ):
        with pytest.raises(InvalidArgument, match="no file of a store"):
            action(directory)
    assert mine.read_bytes() == before
