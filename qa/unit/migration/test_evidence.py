"""What is said of models that are deployed, and of those that are not, where a folder holds several repositories."""

from pathlib import Path

import pytest

from tritium.migration.audit import audit

MODEL = 'backend: "python"\n'
COMPOSE = """services:
  triton:
    image: nvcr.io/nvidia/tritonserver:24.01-py3
    command: tritonserver --model-repository=/models
    volumes:
      - {host}:/models
"""


def evidence(root: Path, **files: str) -> dict[str, str]:
    """Write two repositories and some files, and return what is said of each model."""
    for repository in ("serving/models", "backup/models"):
        (root / repository / "net").mkdir(parents=True)
        (root / repository / "net/config.pbtxt").write_text(MODEL)
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_yaml", ".yaml").replace("_sh", ".sh")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {model.path.parts[0]: model.evidence for model in audit(root).models}


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"compose_yaml": COMPOSE.format(host="./serving/models")}, "compose.yaml:6"),
        ({"serving__compose_yaml": COMPOSE.format(host="${PWD}/models")}, "serving/compose.yaml:6"),
        (
            {
                "Dockerfile": "FROM nvcr.io/nvidia/tritonserver:24.01-py3\nCOPY serving/models /models\n"
                "CMD tritonserver --model-repository=/models\n"
            },
            "Dockerfile:2",
        ),
        (
            {
                "run_sh": "docker run -v $(pwd)/serving/models:/m nvcr.io/nvidia/tritonserver:24.01-py3 "
                "tritonserver --model-repository=/m\n"
            },
            "run.sh:1",
        ),
        ({"run_sh": "tritonserver --model-repository=serving/models\n"}, "run.sh:1"),
    ],
    ids=["volume", "volume beside it", "copy", "docker run", "path"],
)
def test_what_names_a_repository_deploys_it(files: dict[str, str], place: str, tmp_path: Path) -> None:
    """A volume, a copy or the flag says which repository is served; the one in a backup folder is told apart."""
    said = evidence(tmp_path, **files)
    assert said["serving"] == f"deployed by {place}"
    assert said["backup"] == "probably not deployed: nothing names it, and it lies in 'backup'"


def test_models_that_are_not_loaded_are_told(tmp_path: Path) -> None:
    """Under explicit control, those that --load-model does not name."""
    for name in ("a", "b"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.pbtxt").write_text(MODEL)
    command = "tritonserver --model-repository=models --model-control-mode=explicit --load-model=a\n"
    (tmp_path / "run.sh").write_text(command)
    said = {model.name: model.evidence for model in audit(tmp_path).models}
    assert said == {"a": "deployed by run.sh:1", "b": "not among the models that --load-model names"}


def test_nothing_is_said_where_nothing_shows_it(tmp_path: Path) -> None:
    """A repository that no file names has no evidence of either kind."""
    (tmp_path / "models/net").mkdir(parents=True)
    (tmp_path / "models/net/config.pbtxt").write_text(MODEL)
    assert [model.evidence for model in audit(tmp_path).models] == [""]
