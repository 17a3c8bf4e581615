"""The shape of the code base: which room may import which, how long a file may be, how the portions are laid out."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PORTIONS = ("server", "backends", "compat", "migration")

# What each room may import of ours, itself aside. `cli` composes everything and may import all.
MAY_IMPORT = {
    "compat": set(),
    "core": {"compat"},
    "wire": set(),
    "memory": {"core", "compat"},
    "kv": {"core"},
    "backends": {"core", "compat", "kv"},
    "repository": {"core", "compat", "backends"},
    "http": {"wire", "core", "compat"},
    "grpc": {"wire", "core", "compat"},
    "router": {"core"},
    "cluster": {"core", "router", "backends"},
    "simulation": {"core", "router", "cluster", "backends"},
    "llm": {"core", "compat", "router", "cluster", "backends", "repository"},
    "openai": {"llm", "core", "wire", "cluster", "backends"},
    "cache": {"core"},
    "observe": {"core", "wire", "compat"},
    "api": {"cli", "core", "compat", "repository", "observe", "wire"},
    "migration": {"compat"},
}


def sources() -> list[Path]:
    """Return every Python file of the portions."""
    return sorted(path for portion in PORTIONS for path in (ROOT / portion).rglob("*.py"))


def room_of(path: Path) -> str:
    """Return the room a file stands in, e.g. server/tritium/http/infer.py -> http."""
    parts = path.relative_to(ROOT).parts
    return parts[2]


def imported_rooms(path: Path) -> set[str]:
    """Return the rooms of ours that a file imports anywhere, also inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        rooms |= {name.split(".")[1] for name in names if name.startswith("tritium.")}
    return rooms


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_point_one_way(room: str) -> None:
    """A room imports only the rooms below it."""
    for path in sources():
        if room_of(path) == room:
            beyond = imported_rooms(path) - MAY_IMPORT[room] - {room}
            assert beyond == set(), f"{path.relative_to(ROOT)} imports {beyond}"


def test_every_room_has_its_rule() -> None:
    """A new room must say what it may import."""
    assert {room_of(path) for path in sources()} - set(MAY_IMPORT) == {"cli"}


def test_the_table_of_rooms_goes_downwards() -> None:
    """In ARCHITECTURE.md a room stands above those it may import, as the page says; rooms of one row are beside it."""
    rows = [line for line in (ROOT / "ARCHITECTURE.md").read_text().splitlines() if line.startswith("| `")]
    named = [re.findall(r"(?:tritium/)?(\w+)`", row.split("|")[1]) for row in rows]
    place = {room: at for at, rooms in enumerate(named) for room in rooms}
    assert set(place) == {*MAY_IMPORT, "cli"}
    for room, below in MAY_IMPORT.items():
        assert {other for other in below if place[other] <= place[room]} == set(), room


def test_no_file_is_too_long() -> None:
    """A file answers one question: 500 lines at most, tests included."""
    files = [*sources(), *(ROOT / "qa").rglob("*.py")]
    long = {str(p.relative_to(ROOT)): n for p in files if (n := len(p.read_text().splitlines())) > 500}
    assert long == {}


def test_names_say_what_a_file_holds() -> None:
    """No file is named for being useful."""
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [p for p in sources() if p.stem in vague] == []


def test_portions_share_the_namespace() -> None:
    """An __init__.py directly in a portion would hide the other portions."""
    assert [p for p in PORTIONS if (ROOT / p / "tritium" / "__init__.py").exists()] == []


def test_every_room_is_typed() -> None:
    """Each room ships py.typed, so that users' type checkers read its annotations."""
    missing = [
        folder.relative_to(ROOT)
        for portion in PORTIONS
        for folder in (ROOT / portion / "tritium").iterdir()
        if folder.is_dir() and folder.name != "__pycache__" and not (folder / "py.typed").exists()
    ]
    assert missing == []


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=["lint", "format", "types"],
)
@pytest.mark.timeout(400)
def test_linters_are_content(command: list[str]) -> None:
    """What `make check` runs passes."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
