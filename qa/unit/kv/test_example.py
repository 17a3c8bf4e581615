"""The example of the documentation, and what using the library on its own takes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "kv-tiers.md"
MOST_LINES = 30

ALONE = """
import sys

ALLOWED = {"tritium", "numpy", "xxhash", "msgspec", "obstore", *sys.stdlib_module_names}


class OnlyOurs:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in ALLOWED and not name.startswith("_"):
            raise ModuleNotFoundError(f"{name} is not of the extra kv", name=name)


sys.meta_path.insert(0, OnlyOurs())
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), {})
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("tritium.")}
print(sorted(rooms))
"""


def example() -> str:
    """Return the example."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    return found[1]


def test_the_documented_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, but for the directory."""
    exec(compile(example().replace("/tmp/kv", str(tmp_path)), str(PAGE), "exec"), {})
    told = capsys.readouterr().out.splitlines()
    assert told == ["[<Tier.HOST: 'host'>] 1", "True frozenset() True"]
    assert len(example().splitlines()) <= MOST_LINES


def test_the_library_stands_alone(tmp_path: Path) -> None:
    """All its tiers and peers, with nothing importable but what the extra names: no server, no engine, no torch."""
    (tmp_path / "bucket").mkdir()
    script = tmp_path / "example.py"
    more = (
        "from tritium.kv.settings import ObjectSettings, PeerSettings\n"
        f"all_of_it = StoreSettings(4096, HostSettings(1 << 20), DiskSettings(1 << 20, (Path('{tmp_path}/all'),)),\n"
        f"    ObjectSettings(1 << 20, 'file://{tmp_path}/bucket'),\n"
        f"    peers=PeerSettings(('{tmp_path}/meet',), path='plain'))\n"
        "with BlockStore(all_of_it) as store:\n    assert store.peer_address and store.settle(60)\n"
    )
    script.write_text(example().replace("/tmp/kv", str(tmp_path / "kv")) + more)
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "['core', 'kv']"
