"""What is installed is what is in the repository: the wheel holds every module, and nothing else lands beside it."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PORTIONS = ("server", "backends", "compat", "migration")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build an sdist, and a wheel from it."""
    out = tmp_path_factory.mktemp("dist")
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(line, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_tracked_file(wheel: Path) -> None:
    """The portions' tracked files, data included, are the wheel's files."""
    listed = subprocess.check_output(["git", "ls-files", *PORTIONS], cwd=ROOT, text=True).splitlines()
    tracked = {path.split("/", 1)[1] for path in listed if (ROOT / path).exists()}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == tracked


@pytest.mark.timeout(300)
def test_an_empty_environment_gets_one_package(wheel: Path, tmp_path: Path) -> None:
    """Installing adds `tritium` and its metadata, the three commands, and nothing named after our folders."""
    venv.create(tmp_path / "venv", with_pip=False)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    line = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
        "--prefix",
    ]
    subprocess.run([*line, str(tmp_path / "venv"), str(wheel)], check=True, capture_output=True)
    added = {path.name.split("-")[0] for path in site.iterdir()}
    assert added == {"tritium"}
    commands = {path.name for path in (tmp_path / "venv" / "bin").iterdir()}
    assert {"tritium", "tritonserver", "dynamo-migrate"} <= commands
