"""Platforms that start Triton themselves: what a plan edits, to the line, and what it leaves to a person."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tritium.migration.planning.answers import Answers
from tritium.migration.planning.planner import ALL, Wishes, make_plan, texts
from tritium.migration.survey import survey

SELDON_1 = """\
apiVersion: machinelearning.seldon.io/v1
kind: SeldonDeployment
metadata:
  name: triton   # kept
spec:
  predictors:
  - graph:
      implementation: TRITON_SERVER
      modelUri: gs://models/simple
      name: simple
    name: default   # one
    replicas: 1
"""
SELDON_2 = """\
apiVersion: mlops.seldon.io/v1alpha1
kind: Server
metadata:
  name: triton
spec:
  serverConfig: triton
  replicas: 2 # two
---
apiVersion: mlops.seldon.io/v1alpha1
kind: Model
metadata:
  name: m
spec:
  storageUri: "gs://m"
  requirements: [triton, onnx]
"""
AZURE = """\
name: blue
endpoint_name: shop
model:
  name: densenet
  path: ./models   # the repository
  type: triton_model
instance_count: 1
"""
JOB = """\
#!/bin/bash
#SBATCH --gpus=4
apptainer pull triton.sif docker://nvcr.io/nvidia/tritonserver:24.01-py3
srun --container-image=nvcr.io#nvidia/tritonserver:24.01-py3 tritonserver --model-store=/models   # pyxis
"""
PLAYBOOK = """\
- hosts: gpu
  tasks:
    - community.docker.docker_container:
        image: "nvcr.io/nvidia/tritonserver:{{ version }}-py3"
        command: tritonserver --model-store=/models
"""
TERRAFORM = """\
resource "kubernetes_deployment" "triton" {
  image   = "nvcr.io/nvidia/tritonserver:23.10-py3" // the image
  args    = ["tritonserver", "--model-store=s3://b/m", "--strict-model-config=false"] # flags
}
"""
VERTEX = """\
from google.cloud import aiplatform

aiplatform.Model.upload(
    serving_container_image_uri='nvcr.io/nvidia/tritonserver:22.05-py3',  # quoted so
    serving_container_args=["tritonserver", "--model-repository=$(AIP_STORAGE_URI)", "--strict-model-config=false"],
)
"""
COMPONENT = """\
    componentSpecs:
    - spec:
        containers:
        - name: simple
          image: tritium:latest
"""
URI = "{account}.dkr.ecr.{region}.amazonaws.com/sagemaker-tritonserver:23.07-py3"
SAGEMAKER = f"""\
image = "{URI}".format(account=account, region=region)  # AWS's own
environment = {{"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "resnet"}}
"""


def migrated(tmp_path: Path, name: str, text: str, wishes: Wishes | None = None) -> dict[str, str]:
    """Return the text of each file that a plan for one file writes."""
    folder = tmp_path / "deployment"
    folder.mkdir()
    (folder / name).write_text(text)
    plan = make_plan(folder, wishes or Wishes(unsafe=frozenset({ALL})))
    return texts(survey(folder), plan.changes)


@pytest.mark.parametrize(
    ("name", "text", "old", "new"),
    [
        (
            "graph.yaml",
            SELDON_1,
            "    name: default",
            COMPONENT + "    name: default",
        ),
        (
            "server.yaml",
            SELDON_2,
            "  serverConfig",
            "  podSpec:\n    containers:\n    - name: triton\n      image: tritium:latest\n  serverConfig",
        ),
        ("tf.tf", TERRAFORM, "", ""),
        ("vertex.py", VERTEX, "", ""),
        ("job.sbatch", JOB, "", ""),
        ("play.yml", PLAYBOOK, "nvcr.io/nvidia/tritonserver", "tritium"),
    ],
)
def test_only_what_names_triton_changes(name: str, text: str, old: str, new: str, tmp_path: Path) -> None:
    """Images and flags are replaced where they stand; comments, quotes and everything else stay."""
    expected = text.replace(old, new, 1)
    for registry in ("nvcr.io/nvidia/", "nvcr.io#nvidia/"):
        for tag in ("22.05", "23.10", "24.01"):
            expected = expected.replace(f"{registry}tritonserver:{tag}-py3", "tritium:latest")
    expected = expected.replace("--model-store", "--model-repository").replace(', "--strict-model-config=false"', "")
    assert migrated(tmp_path, name, text) == {name: expected}


def test_an_image_of_enroot_keeps_its_mark(tmp_path: Path) -> None:
    """Between registry and repository stands a #, in front of Apptainer's the scheme."""
    wishes = Wishes(Answers({("image", ""): "reg.example.com/ml/tritium:1"}))
    made = migrated(tmp_path, "job.sbatch", JOB, wishes)["job.sbatch"]
    assert "docker://reg.example.com/ml/tritium:1\n" in made
    assert "--container-image=reg.example.com#ml/tritium:1 " in made


def test_an_image_with_an_action_for_its_tag_keeps_that(tmp_path: Path) -> None:
    """Whose value moves with it, so it has to be asked for."""
    assert "tritium" not in migrated(tmp_path, "play.yml", PLAYBOOK, Wishes())["play.yml"]


def test_seldons_models_stay(tmp_path: Path) -> None:
    """They ask for a capability, which the server has as before."""
    (tmp_path / "server.yaml").write_text(SELDON_2)
    plan = make_plan(tmp_path, Wishes())
    assert [one.change.rule for one in plan.withheld] == ["L16"]
    assert [note.path for note in plan.notes if "Model m" in note.message] == []


def test_a_deployment_of_azure_brings_its_own_container(tmp_path: Path) -> None:
    """With the routes that Azure asks, a Dockerfile that serves the model's folder, and another type."""
    made = migrated(tmp_path, "deployment.yml", AZURE)
    assert made["deployment.yml"].startswith("environment:\n  build:\n    path: .\n")
    assert made["deployment.yml"].endswith(AZURE.replace("triton_model", "custom_model"))
    assert "$AZUREML_MODEL_DIR/models" in made["tritium-azureml.Dockerfile"]


def test_sagemakers_address_is_asked_for(tmp_path: Path) -> None:
    """The whole literal is replaced: an address of ECR is one of an account."""
    (tmp_path / "deploy.py").write_text(SAGEMAKER)
    assert [one.about for one in make_plan(tmp_path, Wishes()).questions if one.is_open] == [URI]
    answers = Answers({("base", URI): "1.dkr.ecr.eu-west-1.amazonaws.com/tritium:1"})
    plan = make_plan(tmp_path, Wishes(answers))
    made = texts(survey(tmp_path), plan.changes)
    assert made == {"deploy.py": SAGEMAKER.replace(URI, "1.dkr.ecr.eu-west-1.amazonaws.com/tritium:1")}
    assert [note.rule for note in plan.notes] == []


@pytest.mark.parametrize(
    ("environment", "models", "load"),
    [
        ({"SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": "resnet"}, "/opt/ml/model", "--load-model=resnet"),
        ({}, "/opt/ml/model", "--load-model=*"),
        ({"SAGEMAKER_MULTI_MODEL": "true"}, "/tmp/sagemaker", ""),
    ],
)
def test_sagemakers_entry_point_starts_the_server(
    environment: dict[str, str], models: str, load: str, tmp_path: Path
) -> None:
    """By the word `serve`, with one model, all of an archive, or those that are loaded later."""
    made = migrated(tmp_path, "deploy.py", SAGEMAKER)["tritium-sagemaker.Dockerfile"]
    entry = json.loads(made.replace("\\\n", "").partition("ENTRYPOINT ")[2])
    program = tmp_path / "tritonserver"
    program.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    program.chmod(0o755)
    (tmp_path / "mkdir").symlink_to(shutil.which("true") or "/bin/true")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    said = subprocess.run(
        [*entry, "serve"], env={"PATH": path, **environment}, capture_output=True, text=True, timeout=60, check=True
    ).stdout.splitlines()
    assert f"--model-repository={models}" in said
    assert [word for word in said if word.startswith("--load-model")] == ([load] if load else [])
    assert {"--allow-sagemaker=true", "--sagemaker-port=8080"} <= set(said)


@pytest.mark.parametrize(
    ("name", "text"), [("graph.yaml", SELDON_1), ("deployment.yml", AZURE), ("deploy.py", SAGEMAKER)]
)
def test_the_image_that_is_written_is_asked_for(name: str, text: str, tmp_path: Path) -> None:
    """Also where none stood before; until it is answered the plan says which name it goes on with."""
    (tmp_path / name).write_text(text)
    questions = make_plan(tmp_path, Wishes()).questions
    assert [one.assumed for one in questions if one.topic == "image"] == ["tritium:latest"]
