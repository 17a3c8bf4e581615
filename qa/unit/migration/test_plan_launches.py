"""Plans for what stands around the server: users in Dockerfiles, variables, startup probes."""

from pathlib import Path

import pytest

from tritium.migration.planning.planner import Wishes, make_plan, texts
from tritium.migration.survey import survey

FROM = "FROM nvcr.io/nvidia/tritonserver:24.08-py3"


def written(tmp_path: Path, name: str, text: str) -> str:
    """Return a file as the safe changes of a plan make it."""
    (tmp_path / name).write_text(text)
    plan = make_plan(tmp_path, Wishes())
    return texts(survey(tmp_path), plan.changes).get(name, text)


def test_users_stand_around_what_runs_as_root(tmp_path: Path) -> None:
    """Before the first such line of the stage, after the last; continued lines stay whole, and it is done once."""
    head = f"{FROM}\nCMD tritonserver --model-repository=/m\n"
    text = f"{head}RUN apt-get update && \\\n    apt-get install -y git  # x\nCOPY a /a\nRUN pip install b"
    after = written(tmp_path, "Dockerfile", text)
    assert after == (
        "FROM tritium:latest\nCMD tritonserver --model-repository=/m\nUSER root\n"
        "RUN apt-get update && \\\n    apt-get install -y git  # x\n"
        "COPY a /a\nRUN pip install b\nUSER tritium"
    )
    assert written(tmp_path, "Dockerfile", after) == after


@pytest.mark.parametrize(
    "text",
    [
        f"{FROM}\nRUN pip install b\nUSER triton\n",
        f"{FROM}\nRUN <<EOF\npip install b\nEOF\n",
        f"{FROM}\nRUN pip install \\\n# why\n  b\n",
        f"{FROM} AS build\nRUN pip install b\nFROM python:3.11\nRUN pip install c\nCMD tritonserver --a=b\n",
    ],
)
def test_users_are_left_to_a_person(text: str, tmp_path: Path) -> None:
    """Where the file names them itself, where an instruction's end is hidden, and where the image is another's."""
    assert "USER root" not in written(tmp_path, "Dockerfile", text)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "compose.yaml",
            f"services:\n  a:\n    image: nvcr.io/nvidia/tritonserver@sha256:{'0' * 64}  # pinned\n    command: x\n",
            "services:\n  a:\n    image: tritium:latest  # pinned\n    command: x\n",
        ),
        (
            "stack.ts",
            "// nvcr.io/nvidia/tritonserver:23.09-py3\nfromRegistry('nvcr.io/nvidia/tritonserver:23.09-py3'),\n",
            "// nvcr.io/nvidia/tritonserver:23.09-py3\nfromRegistry('tritium:latest'),\n",
        ),
        (
            "pod.yaml.j2",
            "kind: Pod\nspec:\n  containers:\n  - name: a\n    image: {{ registry }}/nvidia/tritonserver:23.09-py3\n",
            "kind: Pod\nspec:\n  containers:\n  - name: a\n    image: tritium:latest\n",
        ),
    ],
)
def test_images_are_replaced_whole(name: str, text: str, expected: str, tmp_path: Path) -> None:
    """With the digest that pins them, a registry that is filled in, and in programs that describe a stack."""
    assert written(tmp_path, name, text) == expected


COMPOSE = """\
services:
  triton:
    image: nvcr.io/nvidia/tritonserver:24.01-py3
    environment:
      - HF_HOME=/cache   # kept
      - OMPI_ALLOW_RUN_AS_ROOT=1
"""
POD = """\
kind: Pod
spec:
  containers:
    - name: triton
      image: nvcr.io/nvidia/tritonserver:24.01-py3
      env:
        - name: TRTLLM_ORCHESTRATOR
          value: "1"  # once
        - name: HF_HOME
          value: /cache
"""


@pytest.mark.parametrize(
    ("name", "text", "gone"),
    [
        ("compose.yaml", COMPOSE, "      - OMPI_ALLOW_RUN_AS_ROOT=1\n"),
        ("pod.yaml", POD, '        - name: TRTLLM_ORCHESTRATOR\n          value: "1"  # once\n'),
        ("Dockerfile", f"{FROM}\nENV OMPI_ALLOW_RUN_AS_ROOT=1\nENV B=2\n", "ENV OMPI_ALLOW_RUN_AS_ROOT=1\n"),
        ("run.sh", "export OMPI_MCA_x=y\ntritonserver --model-repository=/m\n", "export OMPI_MCA_x=y\n"),
    ],
)
def test_variables_of_ranks_go_away(name: str, text: str, gone: str, tmp_path: Path) -> None:
    """With their lines, and nothing else."""
    assert gone in text
    expected = text.replace(gone, "").replace("nvcr.io/nvidia/tritonserver:24.01-py3", "tritium:latest")
    assert written(tmp_path, name, text) == expected.replace("nvcr.io/nvidia/tritonserver:24.08-py3", "tritium:latest")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("compose.yaml", COMPOSE.replace("      - HF_HOME=/cache   # kept\n", "")),
        ("run.sh", "OMPI_MCA_x=y tritonserver --model-repository=/m\n"),
        ("Dockerfile", f"{FROM}\nENV A=1 \\\n  OMPI_MCA_x=y\n"),
    ],
)
def test_variables_that_do_not_stand_alone_are_told(name: str, text: str, tmp_path: Path) -> None:
    """An empty list, and half a line, are nobody's intent."""
    assert "OMPI_" in written(tmp_path, name, text)


PROBED = """\
kind: Deployment
spec:
  template:
    spec:
      containers:
        - name: llm
          image: nvcr.io/nvidia/tritonserver:24.01-{flavour}python-py3
          livenessProbe:
            httpGet: {{path: /v2/health/live, port: http}}
"""


def test_a_language_model_is_given_time_to_start(tmp_path: Path) -> None:
    """Before the liveness probe, on its port; other models need none."""
    after = written(tmp_path, "deployment.yaml", PROBED.format(flavour="vllm-"))
    assert (
        "          startupProbe:\n            httpGet:\n              path: /v2/health/ready\n"
        "              port: http\n            periodSeconds: 10\n            failureThreshold: 180\n"
        "          livenessProbe:\n" in after
    )
    assert "startupProbe" not in written(tmp_path, "deployment.yaml", PROBED.format(flavour="pyt-"))
