"""Plans carried out: beside the deployment, in place, interrupted at any point, and taken back to the byte."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tritium.migration.applying.in_place import apply_in_place, roll_back
from tritium.migration.applying.journal import BadJournal
from tritium.migration.applying.output import apply_to
from tritium.migration.applying.place import Refused
from tritium.migration.planning.plan import Plan
from tritium.migration.planning.planner import ALL, Wishes, make_plan
from tritium.migration.planning.saved import StalePlan, digest, save

SAMPLE = Path(__file__).parents[2] / "migration" / "sample"
EVERYTHING = Wishes(unsafe=frozenset({ALL}))
_KILLED = """
import os, signal, sys
from pathlib import Path
from tritium.migration.applying.disk import replace
from tritium.migration.applying.in_place import apply_in_place, roll_back
from tritium.migration.planning.saved import load

root, left = Path(sys.argv[1]), int(sys.argv[3])

def write(path, raw, like):
    global left
    if left == 0:
        path.with_name(f".{path.name}.dynamo-migrate").write_bytes(raw[: len(raw) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    replace(path, raw, like)

if sys.argv[2] == "rollback":
    roll_back(root, write=write)
else:
    apply_in_place(load(Path(sys.argv[2])), root, write)
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a copy of the sample deployment, with modes, line ends and bytes that an editor would lose."""
    shop = Path(shutil.copytree(SAMPLE, tmp_path / "shop"))
    (shop / "Dockerfile").write_bytes(b"\xef\xbb\xbf" + (shop / "Dockerfile").read_bytes().replace(b"\n", b"\r\n"))
    (shop / "Dockerfile").chmod(0o640)
    (shop / "compose.yaml").write_bytes((shop / "compose.yaml").read_bytes() + b"# caf\xe9, no line end")
    (shop / "models/scale/1/weights.bin").write_bytes(bytes(range(256)))
    (shop / "link").symlink_to("models")
    return shop


def state(root: Path) -> dict[str, tuple[int, bytes | str]]:
    """Return mode and content of everything below a folder."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in sorted(root.rglob("*")):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink():
            found[str(path.relative_to(root))] = mode, str(path.readlink())
        else:
            found[str(path.relative_to(root))] = mode, path.read_bytes() if path.is_file() else b""
    return found


def digests(root: Path, plan: Plan) -> dict[str, str]:
    """Return what stands where the plan writes."""
    return {path: digest((root / path).read_bytes()) for path in plan.results}


def test_a_plan_is_written_beside_the_deployment(shop: Path, tmp_path: Path) -> None:
    """The copy is whole, with the plan's files in it; the deployment itself is untouched."""
    before, plan, output = state(shop), make_plan(shop, EVERYTHING), tmp_path / "out"
    assert apply_to(plan, shop, output) == sorted(plan.results)
    assert state(shop) == before
    after = state(output)
    assert set(after) == {*before, *plan.creates}
    assert {path for path in after if after[path] != before.get(path)} == set(plan.results)
    assert {path for path in before if after[path][0] != before[path][0]} == set()
    assert digests(output, plan) == plan.results
    assert apply_to(plan, shop, output) == []


def test_only_changed_files_are_written_where_asked(shop: Path, tmp_path: Path) -> None:
    """For who keeps weights of many gigabytes elsewhere."""
    plan = make_plan(shop, EVERYTHING)
    apply_to(plan, shop, tmp_path / "out", only_changed=True)
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == set(plan.results)


def test_an_output_that_holds_something_else_is_refused(shop: Path, tmp_path: Path) -> None:
    """Nor may it lie in the deployment, or around it."""
    plan = make_plan(shop, EVERYTHING)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/other").write_text("mine")
    with pytest.raises(Refused, match="holds something else"):
        apply_to(plan, shop, tmp_path / "out")
    for place in (shop, shop / "out", tmp_path):
        with pytest.raises(Refused, match="beside the deployment"):
            apply_to(plan, shop, place)


def test_a_plan_is_applied_in_place_once_and_taken_back(shop: Path) -> None:
    """A second apply changes nothing; rollback restores bytes and modes, and leaves nothing behind."""
    before, plan = state(shop), make_plan(shop, EVERYTHING)
    assert apply_in_place(plan, shop) == sorted(plan.results)
    assert digests(shop, plan) == plan.results
    applied = state(shop)
    assert {path for path in before if applied[path] != before[path]} == set(plan.results) - set(plan.creates)
    assert apply_in_place(plan, shop) == []
    assert state(shop) == applied
    assert roll_back(shop) == sorted(plan.results)
    assert state(shop) == before


def test_times_come_back_too(shop: Path) -> None:
    """A build that goes by times sees no change after a rollback."""
    path = shop / "compose.yaml"
    os.utime(path, ns=(10**18, 10**18))
    apply_in_place(make_plan(shop, EVERYTHING), shop)
    assert path.stat().st_mtime_ns != 10**18
    roll_back(shop)
    assert path.stat().st_mtime_ns == 10**18


def test_a_migrated_deployment_needs_nothing_more(shop: Path) -> None:
    """A plan of what was applied is empty."""
    apply_in_place(make_plan(shop, EVERYTHING), shop)
    again = make_plan(shop, EVERYTHING)
    assert again.changes == []
    assert again.withheld == []


@pytest.mark.parametrize("files", [0, 1, 4])
@pytest.mark.parametrize("way", ["rollback", "resume"])
def test_an_apply_that_is_killed_is_resumed_or_taken_back(files: int, way: str, shop: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of a file: nothing is half, and both ways out are open."""
    before, plan = state(shop), make_plan(shop, EVERYTHING)
    save(plan, tmp_path / "plan.json")
    command = [sys.executable, "-c", _KILLED, str(shop), str(tmp_path / "plan.json"), str(files)]
    assert subprocess.run(command, timeout=120, check=False).returncode == -signal.SIGKILL
    if way == "resume":
        apply_in_place(plan, shop)
        assert digests(shop, plan) == plan.results
    roll_back(shop)
    assert state(shop) == before


def test_a_rollback_that_is_killed_is_done_again(shop: Path, tmp_path: Path) -> None:
    """Backups go last."""
    before, plan = state(shop), make_plan(shop, EVERYTHING)
    apply_in_place(plan, shop)
    command = [sys.executable, "-c", _KILLED, str(shop), "rollback", "2"]
    assert subprocess.run(command, cwd=tmp_path, timeout=120, check=False).returncode == -signal.SIGKILL
    roll_back(shop)
    assert state(shop) == before


def test_work_done_after_an_apply_is_not_lost(shop: Path) -> None:
    """Neither rollback nor another apply overwrites it, unless somebody forces a rollback."""
    before, plan = state(shop), make_plan(shop, EVERYTHING)
    apply_in_place(plan, shop)
    (shop / "compose.yaml").write_text("# mine\n")
    with pytest.raises(Refused, match=r"compose\.yaml"):
        roll_back(shop)
    with pytest.raises(Refused, match=r"compose\.yaml"):
        apply_in_place(plan, shop)
    assert (shop / "compose.yaml").read_text() == "# mine\n"
    roll_back(shop, force=True)
    assert state(shop) == before


def test_plans_follow_one_another_and_go_back_together(shop: Path) -> None:
    """Answers come later than the first plan: the next one builds on it, rollback goes to the beginning."""
    before = state(shop)
    apply_in_place(make_plan(shop, Wishes()), shop)
    second = make_plan(shop, EVERYTHING)
    assert apply_in_place(second, shop) == sorted(second.results)
    assert apply_in_place(second, shop) == []
    roll_back(shop)
    assert state(shop) == before


def test_another_plan_waits_for_one_that_was_interrupted(shop: Path, tmp_path: Path) -> None:
    """Nobody knows what it would build on."""
    save(make_plan(shop, Wishes()), tmp_path / "plan.json")
    command = [sys.executable, "-c", _KILLED, str(shop), str(tmp_path / "plan.json"), "1"]
    assert subprocess.run(command, timeout=120, check=False).returncode == -signal.SIGKILL
    with pytest.raises(Refused, match="another plan was begun here"):
        apply_in_place(make_plan(shop, EVERYTHING), shop)


def test_a_stale_plan_writes_nothing(shop: Path, tmp_path: Path) -> None:
    """In place and beside."""
    plan = make_plan(shop, EVERYTHING)
    (shop / "compose.yaml").write_text("services: {}\n")
    before = state(shop)
    with pytest.raises(StalePlan):
        apply_in_place(plan, shop)
    with pytest.raises(StalePlan):
        apply_to(plan, shop, tmp_path / "out")
    assert state(shop) == before
    assert not (tmp_path / "out").exists()


def test_a_plan_that_was_edited_by_hand_writes_nothing(shop: Path) -> None:
    """Its edits no longer make what it promises."""
    plan = make_plan(shop, EVERYTHING)
    plan.results["compose.yaml"] = digest(b"something else")
    before = state(shop)
    with pytest.raises(Refused, match="make it again"):
        apply_in_place(plan, shop)
    assert state(shop) == before


def test_there_is_nothing_to_take_back_where_nothing_was_applied(shop: Path) -> None:
    """A script may say so all the same; a folder that is not there is refused, and a damaged journal said to be."""
    assert roll_back(shop) == []
    with pytest.raises(Refused, match="no folder"):
        roll_back(shop / "typo")
    (shop / ".dynamo-migrate/1").mkdir(parents=True)
    (shop / ".dynamo-migrate/1/journal.json").write_text("{")
    with pytest.raises(BadJournal, match=r"journal\.json"):
        roll_back(shop)
