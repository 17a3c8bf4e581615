"""`plan`, `apply` and `rollback` on the command line: several deployments at once, and the same plan again."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tritium.migration.cli import main

SAMPLE = Path(__file__).parents[2] / "migration" / "sample"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with two deployments and none, in which commands run."""
    shutil.copytree(SAMPLE, tmp_path / "shop")
    shutil.copytree(SAMPLE / "models", tmp_path / "models")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, status: int = 0) -> Result:
    """Run dynamo-migrate, which has to end with this status."""
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == status, result.output
    return result


@pytest.mark.parametrize("where", [(), ("--in-place",), ("-o", "elsewhere")])
def test_a_plan_twice_has_nothing_to_do(where: tuple[str, ...], here: Path) -> None:
    """And says so, instead of refusing what it wrote itself."""
    run("plan", "shop")
    assert "6 files written" in run("apply", *where).output
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    assert "nothing to do: all of the plan is done already" in run("apply", *where).output
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


def test_a_plan_is_done_where_its_files_are(here: Path) -> None:
    """Also when the journal has gone, after a commit say, and beside a deployment in which it was applied."""
    run("plan", "shop")
    run("apply", "--in-place")
    shutil.rmtree(here / "shop/.dynamo-migrate")
    assert "all of the plan is done already" in run("apply", "--in-place").output
    assert "all of the plan is done already" in run("apply", "-o", "elsewhere").output
    assert not (here / "elsewhere").exists()


def test_a_plan_without_changes_is_applied_as_often_as_one_likes(here: Path) -> None:
    """The copy is whole the first time."""
    run("plan", "models")
    for _ in range(2):
        assert "nothing to do: the plan changes nothing" in run("apply").output
    assert (here / "models-tritium/pipeline/config.pbtxt").is_file()


def test_a_plan_of_what_has_moved_on_is_refused(here: Path) -> None:
    """A file that was changed after it was written is no longer what the plan makes."""
    run("plan", "shop")
    run("apply", "--in-place")
    shutil.rmtree(here / "shop/.dynamo-migrate")
    with (here / "shop/compose.yaml").open("a") as file:
        file.write("# later\n")
    assert "compose.yaml: was changed" in run("apply", "--in-place", status=2).output


def test_several_deployments_have_a_plan_each(here: Path) -> None:
    """Named after their folders; what is no deployment is said, and keeps none of the others from it."""
    said = run("plan", "shop", "models", "empty", "-o", "plans", "--answers", "answers.yaml", status=2).output
    assert "empty holds no Triton deployment" in said
    plans = sorted(str(path) for path in Path("plans").iterdir())
    assert plans == ["plans/models.dynamo-migrate.json", "plans/shop.dynamo-migrate.json"]
    assert Path("answers.yaml").read_text().count("\nimage:") == 1
    run("apply", *plans, "-o", "moved")
    assert "tritium:latest" in (here / "moved/shop/compose.yaml").read_text()
    assert (here / "moved/models/scale/config.pbtxt").is_file()


def test_deployments_of_one_name_are_planned_one_by_one(here: Path) -> None:
    """Their plans would take each other's place."""
    shutil.copytree(SAMPLE, here / "other/shop")
    assert "one by one" in run("plan", "shop", "other/shop", status=2).output


def test_a_rollback_twice_has_nothing_to_do(here: Path) -> None:
    """And exits with 0, as after an apply that changed nothing, so that scripts go on."""
    run("plan", "shop")
    run("apply", "--in-place")
    assert "6 files restored in shop" in run("rollback", "shop").output
    assert "nothing to do" in run("rollback", "shop").output
    run("plan", "models")
    run("apply", "--in-place")
    assert "0 files restored in models" in run("rollback", "models").output


def test_what_is_misspelt_is_named(here: Path) -> None:
    """A topic of the answers, the name of an engine in them, and a rule that --unsafe asks for."""
    answers = here / "answers.yaml"
    answers.write_text("imaeg: a")
    assert (
        "nothing asks for 'imaeg'; is image meant?" in run("plan", "shop", "--answers", str(answers), status=2).output
    )
    answers.write_text('checkpoint: {"llm/tensorrt": a/b, "llm/models/tensorrt_llm": a/b}')
    said = run("plan", "shop", "--answers", str(answers)).output
    assert "answers checkpoint llm/tensorrt, which nothing here asks" in said
    assert said.count("which nothing here asks") == 1
    assert "there is no rule Z99" in run("plan", "shop", "--unsafe=Z99", status=2).output
    assert "4 unsafe changes" not in run("plan", "shop", "--unsafe=fleet", "--unsafe=l05").output
