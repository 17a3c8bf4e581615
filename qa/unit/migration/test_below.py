"""Nothing outside a deployment is written or taken away, whatever plan, journal, links, faults and other applies do."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace as replaced
from pathlib import Path

import pytest
from click.testing import CliRunner

from tritium.migration.applying.disk import replace
from tritium.migration.applying.in_place import apply_in_place, roll_back
from tritium.migration.applying.journal import BadJournal, Entry, Journal, Record, State
from tritium.migration.applying.output import apply_to
from tritium.migration.applying.place import Refused, alone
from tritium.migration.cli import main
from tritium.migration.planning.answers import Answers
from tritium.migration.planning.plan import GONE, Change, NewFile, Piece, Plan
from tritium.migration.planning.planner import ALL, Wishes, make_plan
from tritium.migration.planning.saved import BadPlan, digest, inputs, load, save
from tritium.migration.text.source import source_of
from tritium.migration.text.tree import Mapping, documents

FIVE = Path(__file__).parents[2] / "migration" / "five_models"
_EVERY_STEP = Path(__file__).with_name("killed_at_every_step.py")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a small deployment with a folder that a plan may take away."""
    shop = tmp_path / "shop"
    (shop / "models/scale/1").mkdir(parents=True)
    (shop / "models/scale/config.pbtxt").write_text('name: "scale"\nbackend: "python"\n')
    (shop / "Dockerfile").write_text("FROM nvcr.io/nvidia/tritonserver:24.01-py3\n")
    (shop / "old").mkdir()
    (shop / "old/notes.txt").write_text("old\n")
    return shop


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Return a folder that is none of the deployment's."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/notes.txt").write_text("old\n")
    return tmp_path / "elsewhere"


def plan_that(shop: Path, *, creates: str = "", removes: str = "") -> Plan:
    """Return a plan of one change, as somebody may have written it by hand."""
    results = ({creates: digest(b"new\n")} if creates else {}) | ({removes: GONE} if removes else {})
    gone = {removes: digest(b"old\n")} if removes else {}
    new = [NewFile(creates, "new\n")] if creates else []
    change = Change("M03", "Dockerfile", 1, "", safe=False, creates=new, removes=[removes] if removes else [])
    return Plan(str(shop), inputs(shop) | gone, results, [change])


@pytest.mark.parametrize("way", [{"creates": "door/new.txt"}, {"removes": "door/notes.txt"}])
def test_nothing_is_written_or_taken_away_behind_a_link(
    way: dict[str, str], shop: Path, elsewhere: Path, tmp_path: Path
) -> None:
    """In place and beside: what a folder's link leads to may be the only copy, and serve others."""
    (shop / "door").symlink_to(elsewhere)
    plan = plan_that(shop, **way)
    with pytest.raises(Refused, match="behind the link door"):
        apply_in_place(plan, shop)
    with pytest.raises(Refused, match="behind the link door"):
        apply_to(plan, shop, tmp_path / "out")
    assert [path.name for path in elsewhere.iterdir()] == ["notes.txt"]
    assert not (shop / ".dynamo-migrate").exists()
    assert not (tmp_path / "out").exists()


def test_a_model_whose_version_is_a_link_is_left_out_of_the_plan(tmp_path: Path, elsewhere: Path) -> None:
    """The new file of a version would lie where the link leads; the plan says so instead."""
    five = Path(shutil.copytree(FIVE, tmp_path / "five"))
    shutil.rmtree(five / "models/tensorrt_llm/1")
    (five / "models/tensorrt_llm/1").symlink_to(elsewhere)
    answers = Answers({("checkpoint", "models/tensorrt_llm"): "acme/llama"})
    plan = make_plan(five, Wishes(answers, frozenset({ALL})))
    assert any("models/tensorrt_llm/1 is a link" in one.reason for one in plan.withheld)
    apply_in_place(plan, five)
    assert [path.name for path in elsewhere.iterdir()] == ["notes.txt"]


def test_aliases_that_stand_for_more_than_memory_holds_cost_their_document_only() -> None:
    """A few lines of YAML can name a list of lists of lists, or one that holds itself; other documents are read."""
    laughs = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    text = f"a: &a [*a, *a, *a]\n---\na0: &a0 [x]\n{laughs}---\nbase: &b {{image: x}}\none: *b\n"
    text = "".join(f"a: {deep * 100_000}\n---\n" for deep in ("[", "{a: ", "{? ")) + text
    last = list(documents(source_of(Path("compose.yaml"), text)))
    assert [tree.text("one", "image") for tree in last if isinstance(tree, Mapping)] == ["x"]


@pytest.mark.parametrize("path", ["../elsewhere/new.txt", "/tmp/new.txt", "a/../../new.txt", "a\0b", "", "."])
def test_a_plan_that_names_a_file_outside_is_none(path: str, shop: Path, tmp_path: Path) -> None:
    """Wherever it names it: in what it read, in its promises, and in what it only would make."""
    whole = plan_that(shop, creates="new.txt")
    made = replaced(whole.changes[0], creates=[NewFile(path, "")])
    edited = replaced(whole.changes[0], pieces=[Piece(path, 0, 0, "")])
    for plan in (
        replaced(whole, results={path: GONE}),
        replaced(whole, inputs={path: GONE}),
        replaced(whole, changes=[made]),
        replaced(whole, changes=[edited]),
    ):
        save(plan, tmp_path / "plan.json")
        with pytest.raises(BadPlan, match="outside of the deployment"):
            load(tmp_path / "plan.json")
        if path in (*plan.results, *plan.creates):
            with pytest.raises(Refused):
                apply_in_place(plan, shop)


def test_edits_that_cannot_be_made_are_a_plan_edited_by_hand(shop: Path) -> None:
    """Such as two of the same characters, none at all, or text that no file can hold."""
    there = digest((shop / "Dockerfile").read_bytes())
    meeting = [Piece("Dockerfile", 0, 4, "a"), Piece("Dockerfile", 2, 6, "b")]
    for change, path in (
        (Change("L01", "Dockerfile", 1, "", safe=True, pieces=meeting), "Dockerfile"),
        (Change("L01", "Dockerfile", 1, "", safe=True), "Dockerfile"),
        (Change("L01", "new", 1, "", safe=True, creates=[NewFile("new", "\ud800")]), "new"),
    ):
        with pytest.raises(Refused, match="make it again"):
            apply_in_place(Plan(str(shop), inputs(shop), {path: there[::-1]}, [change]), shop)


def test_a_journal_from_elsewhere_leads_rollback_nowhere_else(shop: Path, elsewhere: Path) -> None:
    """A deployment that was cloned may come with one that somebody has written to do harm."""
    (shop / "door").symlink_to(elsewhere)
    journal = Journal(shop, 1)
    for path in ("../elsewhere/notes.txt", "door/notes.txt", str(elsewhere / "notes.txt")):
        (shop / ".dynamo-migrate/1").mkdir(parents=True, exist_ok=True)
        journal.finish(Record(State.DONE, [Entry(path, GONE, digest(b"old\n"))]))
        with pytest.raises(Refused, match="nothing was written"):
            roll_back(shop, force=True)
    assert (elsewhere / "notes.txt").read_text() == "old\n"


def test_a_journal_folder_that_is_a_link_is_refused(shop: Path, elsewhere: Path) -> None:
    """Nothing is kept there, and nothing is taken away there."""
    (elsewhere / "1/backup").mkdir(parents=True)
    (shop / ".dynamo-migrate").symlink_to(elsewhere)
    with pytest.raises(BadJournal, match="is a link"):
        apply_in_place(plan_that(shop, creates="new.txt"), shop)
    with pytest.raises(BadJournal, match="is a link"):
        roll_back(shop)
    assert (elsewhere / "1/backup").is_dir()
    assert not (elsewhere / ".gitignore").exists()


def test_two_do_not_work_in_one_deployment(shop: Path, tmp_path: Path) -> None:
    """The second would keep as a backup what the first had half written."""
    plan = plan_that(shop, creates="new.txt")
    with alone(shop):
        attempts: list[Callable[[], object]] = [
            lambda: apply_in_place(plan, shop),
            lambda: apply_to(plan, shop, tmp_path / "out"),
            lambda: roll_back(shop),
        ]
        for attempt in attempts:
            with pytest.raises(Refused, match="at work"):
                attempt()
    assert apply_in_place(plan, shop) == ["new.txt"]


def test_a_full_disk_leaves_no_part_of_a_file(shop: Path) -> None:
    """What was there stays, whole."""
    before = (shop / "Dockerfile").read_bytes()
    with no_file_larger_than(1 << 16), pytest.raises(OSError, match="too large"):
        replace(shop / "Dockerfile", bytes(1 << 20), shop / "Dockerfile")
    assert (shop / "Dockerfile").read_bytes() == before
    assert [path.name for path in shop.glob(".*")] == []


def test_a_link_in_place_of_the_new_content_is_not_followed(shop: Path, elsewhere: Path) -> None:
    """Whoever may write into the folder could have put one there."""
    (shop / ".Dockerfile.dynamo-migrate").symlink_to(elsewhere / "notes.txt")
    replace(shop / "Dockerfile", b"new\n")
    assert (elsewhere / "notes.txt").read_text() == "old\n"
    assert (shop / "Dockerfile").read_text() == "new\n"
    assert not (shop / "Dockerfile").is_symlink()


@pytest.mark.parametrize("way", ["apply", "rollback"])
def test_killed_at_every_step_it_goes_back_to_the_byte(way: str, shop: Path, tmp_path: Path) -> None:
    """SIGKILL before each single change of the file system; afterwards a rollback leaves what was, and nothing else."""
    save(replaced(plan_that(shop, creates="new/deep/file", removes="old/notes.txt")), tmp_path / "plan.json")
    command = [sys.executable, str(_EVERY_STEP), way, str(shop), str(tmp_path / "plan.json"), str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > 10


@contextmanager
def no_file_larger_than(size_bytes: int) -> Iterator[None]:
    """Have writes beyond a size fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("text", ["{{ ", "{{a}} ", "{%", "\"'`$("])
def test_files_that_repeat_themselves_cost_no_time_of_their_square(text: str, shop: Path) -> None:
    """A generated file of half a megabyte, on one line or on many, is read like any other."""
    for name, around in (("x.yaml", "image: nvcr.io/nvidia/tritonserver:24.01-py3\nx: "), ("x.sh", "tritonserver ")):
        (shop / name).write_text(f"{around}{text * (500_000 // len(text))}\n")
        (shop / f"lines-{name}").write_text(f"{around}{(text + chr(10)) * (200_000 // len(text))}\n")
    code = "import sys; from pathlib import Path; from tritium.migration.audit import audit; audit(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(shop)], timeout=120, check=True)


def test_names_that_are_no_text_are_read_like_others(shop: Path) -> None:
    """A folder's name may be any bytes; what is written to a terminal or a report is text."""
    strange = os.fsencode(shop) + b"/models/odd\n\xff"
    Path(os.fsdecode(strange)).mkdir()
    Path(os.fsdecode(strange), "config.pbtxt").write_text('backend: "onnxruntime"\n')
    for words in (["audit"], ["audit", "--format=json"], ["plan", "-o", str(shop.with_name("plan.json"))]):
        done = CliRunner().invoke(main, [words[0], str(shop), *words[1:]])
        assert isinstance(done.exception, SystemExit | None), done.exception
        assert "odd" in done.output or words[0] == "plan"
