"""Images and commands are found in every format that starts a server, and their spans are the file's own text."""

from pathlib import Path

import pytest

from tritium.migration.audit import check
from tritium.migration.deployment import Deployment
from tritium.migration.launches.image import Role
from tritium.migration.survey import survey
from tritium.migration.text.edit import rewrite

HEAD = "nvcr.io/nvidia/tritonserver"
# ruff: noqa: E501, ISC004  (files are easier to read in few lines)
CASES = [
    (
        "Dockerfile",
        f"ARG V=24.01\nFROM {HEAD}:${{V}}-py3 AS serve\nRUN pip install x\nENTRYPOINT tritonserver --model-repository=/m\n",
        [f"{HEAD}:${{V}}-py3"],
        ["tritonserver --model-repository=/m"],
    ),
    (
        "serve.Containerfile",
        'FROM acme/base:1\nCMD ["/opt/tritonserver/bin/tritonserver", "--model-repository", "/m"]\n',
        ["acme/base:1"],
        ["/opt/tritonserver/bin/tritonserver --model-repository /m"],
    ),
    (
        "stack.yaml",
        "services:\n  t:\n    image: registry.local:5000/ml/triton@sha256:abc\n    command:\n      - bash\n      - -c\n"
        "      - |\n        pip install x\n        exec tritonserver --model-repository=/m \\\n          --log-verbose=1\n",
        ["registry.local:5000/ml/triton@sha256:abc"],
        ["tritonserver --model-repository=/m --log-verbose=1"],
    ),
    (
        "k8s/pod.yml",
        f"kind: Pod\nspec:\n  containers:\n  - image: {HEAD}:24.01-py3\n    name: t\n    command: [/bin/sh, -c]\n"
        '    args: ["ulimit -n 9000; exec tritonserver --model-repository=/m --http-port=80 | tee log"]\n',
        [f"{HEAD}:24.01-py3"],
        ["tritonserver --model-repository=/m --http-port=80"],
    ),
    (
        "chart/templates/d.yaml",
        "kind: Deployment\nspec:\n{{- if .Values.gpu }}\n  gpu: 1\n{{- end }}\n  containers:\n  - name: t\n"
        '    image: "{{ .Values.image }}"\n    args:\n    {{- range .Values.args }}\n    - {{ . | quote }}\n    {{- end }}\n'
        "    - tritonserver\n    - --model-store={{ .Values.repo }}\n",
        ["{{ .Values.image }}"],
        ["tritonserver --model-store={{ .Values.repo }}"],
    ),
    (
        "values.yaml",
        'triton:\n  image:\n    repository: nvcr.io/nvidia/tritonserver\n    tag: "24.01-py3"\n',
        ["nvcr.io/nvidia/tritonserver"],
        [],
    ),
    (
        "main.tf",
        f'resource "kubernetes_deployment" "t" {{\n  container {{\n    image = "{HEAD}:24.01-py3" # pinned\n'
        '    command = ["tritonserver"]\n    args = [\n      "--model-repository=s3://b/m",\n      // a remark\n'
        '      "--http-port=8000",\n    ]\n  }\n}\n',
        [f"{HEAD}:24.01-py3"],
        ["tritonserver --model-repository=s3://b/m --http-port=8000"],
    ),
    (
        "task.json",
        f'{{"containerDefinitions": [{{"name": "t", "image": "{HEAD}:24.01-py3",\n'
        ' "command": ["tritonserver", "--model-repository=/m"]}]}\n',
        [f"{HEAD}:24.01-py3"],
        ["tritonserver --model-repository=/m"],
    ),
    (
        "job.sbatch",
        f"#!/bin/bash\n#SBATCH -G 1\nIMAGE={HEAD}:24.01-py3\nsrun apptainer exec --nv docker://$IMAGE \\\n"
        "  tritonserver --model-repository=$REPO &\nwait\n",
        [f"{HEAD}:24.01-py3"],
        ["tritonserver --model-repository=$REPO"],
    ),
    (
        "Makefile",
        f"serve:\n\tdocker run --rm --gpus all -p8000:8000 -v $(PWD)/m:/m {HEAD}:24.01-py3 tritonserver --model-repository=/m\n",
        [f"{HEAD}:24.01-py3"],
        ["tritonserver --model-repository=/m"],
    ),
    (
        "play.yml",
        f"- hosts: gpu\n  tasks:\n  - community.docker.docker_container:\n      name: triton\n      image: {HEAD}:24.01-py3\n"
        "      command: tritonserver --model-repository=/m\n",
        [f"{HEAD}:24.01-py3"],
        ["tritonserver --model-repository=/m"],
    ),
    (
        "triton.service",
        f"[Service]\nExecStart=/usr/bin/docker run --rm {HEAD}:24.01-py3 tritonserver --model-repository=/m\n",
        [f"{HEAD}:24.01-py3"],
        ["tritonserver --model-repository=/m"],
    ),
    (
        "serve.py",
        'import subprocess\nsubprocess.Popen(["tritonserver", "--model-repository=/m",\n    f"--http-port={port}"])\n',
        [],
        ["tritonserver --model-repository=/m --http-port={port}"],
    ),
    (
        "up",
        f"#!/usr/bin/env bash\nset -e\npodman run --device nvidia.com/gpu=all {HEAD}:24.01-vllm-python-py3 \\\n"
        '  bash -c "tritonserver --model-repository=/m --model-control-mode=explicit --load-model=a"\n',
        [f"{HEAD}:24.01-vllm-python-py3"],
        ["tritonserver --model-repository=/m --model-control-mode=explicit --load-model=a"],
    ),
    (
        "guide.ipynb",
        '{"cells": [\n {"cell_type": "markdown", "source": ["run tritonserver --model-repository=/no\\n"]},\n'
        f' {{"cell_type": "code", "source": [\n  "IMAGE = \'{HEAD}:22.12-py3\'\\n",\n'
        '  "!docker run $IMAGE \\\\\\n",\n  "  tritonserver --model-repository=/m --exit-on-error=false\\n"]}]}\n',
        [f"{HEAD}:22.12-py3"],
        ["tritonserver --model-repository=/m --exit-on-error=false"],
    ),
    (
        ".env",
        f"TRITON_IMAGE={HEAD}:24.01-py3\n",
        [f"{HEAD}:24.01-py3"],
        [],
    ),
    (
        "kustomization.yaml",
        f"images:\n- name: {HEAD}\n  newTag: 24.01-py3\n",
        [HEAD],
        [],
    ),
    (
        "isvc.yaml",
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nspec:\n  predictor:\n    triton:\n"
        "      runtimeVersion: 23.05-py3\n      storageUri: s3://b/m\n",
        ["23.05-py3"],
        [],
    ),
    (
        "both.sh",
        "CUDA_VISIBLE_DEVICES=$gpu nohup /opt/tritonserver/bin/tritonserver --model-store=/a --http-port=9000 > a.log 2>&1 &\n"
        "nohup tritonserver --model-store=/b \\\n  --http-port=9001 >b.log &\n",
        [],
        [
            "/opt/tritonserver/bin/tritonserver --model-store=/a --http-port=9000",
            "tritonserver --model-store=/b --http-port=9001",
        ],
    ),
    (
        "runtime.yaml",
        "apiVersion: serving.kserve.io/v1alpha1\nkind: ClusterServingRuntime\nspec:\n  containers:\n  - args:\n"
        "    - tritonserver\n    - --model-store=/mnt/models\n    - --allow-grpc=true\n    image: <my-own-image>\n",
        ["<my-own-image>"],
        ["tritonserver --model-store=/mnt/models --allow-grpc=true"],
    ),
    (
        "sdk.py",
        "client.containers.run(\n    image,\n"
        '    command="tritonserver --model-store=/models --strict-model-config=false",\n)\n',
        [],
        ["tritonserver --model-store=/models --strict-model-config=false"],
    ),
    (
        "triton.container",
        f"[Container]\nImage={HEAD}:24.05-py3-igpu\nExec=tritonserver --model-repository=/m\n",
        [f"{HEAD}:24.05-py3-igpu"],
        ["tritonserver --model-repository=/m"],
    ),
    (
        "triton.def",
        f'Bootstrap: docker\nFrom: {HEAD}:24.01-py3\n\n%runscript\n    exec tritonserver --model-repository=/m "$@"\n',
        [f"{HEAD}:24.01-py3"],
        ["tritonserver --model-repository=/m $@"],
    ),
    ("supervisord.conf", "[program:t]\ncommand=tritonserver --model-store=/m\n", [], ["tritonserver --model-store=/m"]),
    (
        "cloudformation.yaml",
        "Resources:\n  Task:\n    Type: AWS::ECS::TaskDefinition\n    Properties:\n      ContainerDefinitions:\n"
        '      - Name: t\n        Image: !Sub "${Registry}/vision:1"\n        Command:\n        - tritonserver\n'
        '        - !Sub "--model-repository=s3://${Bucket}/m"\n        - --http-port=80\n',
        ["${Registry}/vision:1"],
        ["tritonserver --model-repository=s3://${Bucket}/m --http-port=80"],
    ),
    (
        "application.yaml",
        "kind: Application\nspec:\n  source:\n    helm:\n      values: |\n        image:\n"
        f"          repository: &image {HEAD}\n          tag: 24.01-py3\n",
        [HEAD],
        [],
    ),
    (
        "serve.jsonnet",
        f"{{ image: '{HEAD}:24.01-py3', // pinned\n  command: ['tritonserver', '--model-store=/m'] }}\n",
        [f"{HEAD}:24.01-py3"],
        ["tritonserver --model-store=/m"],
    ),
    (
        "Jenkinsfile",
        f"pipeline {{ agent {{ docker {{ image '{HEAD}:24.01-py3' }} }}\n  steps {{ sh 'tritonserver --model-store=/m' }}\n}}\n",
        [f"{HEAD}:24.01-py3"],
        ["tritonserver --model-store=/m"],
    ),
    (
        "job.nomad",
        f'task "t" {{\n  config {{\n    image = "{HEAD}:24.01-py3"\n    args = ["tritonserver", "--model-repository=/m"]\n  }}\n}}\n',
        [f"{HEAD}:24.01-py3"],
        ["tritonserver --model-repository=/m"],
    ),
]


def read(root: Path, name: str, text: str) -> Deployment:
    """Write one file, its line ends as they are, and read the folder."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(text.encode())
    return survey(root)


@pytest.mark.parametrize("crlf", [False, True], ids=["lf", "crlf"])
@pytest.mark.parametrize(("name", "text", "images", "commands"), CASES, ids=[case[0] for case in CASES])
def test_every_format_is_read(
    name: str,
    text: str,
    images: list[str],
    commands: list[str],
    crlf: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    """The image and the command's words are found, with either kind of line ends."""
    found = read(tmp_path, name, text.replace("\n", "\r\n") if crlf else text)
    (launch,) = found.launches
    assert [image.text for image in launch.images] == images
    assert [command.text for command in launch.commands] == commands


@pytest.mark.parametrize(("name", "text"), [case[:2] for case in CASES], ids=[case[0] for case in CASES])
def test_spans_are_the_files_own_text(name: str, text: str, tmp_path: Path) -> None:
    """What stands at the span of an image or a word is that image or word, also behind a byte order mark."""
    found = read(tmp_path, name, "\ufeff" + text)
    for launch, image in found.images():
        assert image.span.of(launch.source.text) == image.text
    for launch, command in found.commands():
        for word in (command.program, *command.words):
            assert word.span(launch.source).of(launch.source.text) == word.text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "app: tritonserver\nname: tritonserver\n"),
        ("label_map.pbtxt", "item {\n  id: 1\n  name: 'raccoon'\n}\n"),
        ("kernel.py", "import triton\nimport triton.language as tl\n\n@triton.jit\ndef add(x, y): ...\n"),
        ("requirements.txt", "triton==3.0\n"),
        ("deepstream.txt", "infer_config { backend { triton { model_name: 'x' version: -1 } } }\n"),
        ("Dockerfile", "FROM nvidia/cuda:12\nRUN pip install triton\n"),
        (
            "isvc.yaml",
            "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nspec: {predictor: {sklearn: {}}}\n",
        ),
        ("client.py", "import requests\nrequests.post('http://mlserver/v2/models/iris/infer')\n"),
        (
            "bench.yaml",
            "kind: Pod\nspec:\n  containers:\n  - name: bench\n    image: ghcr.io/a/triton:1\n    command: [pytest]\n",
        ),
        ("values.yaml", "image:\n  repository: ghcr.io/meta/tritonbench\n  tag: latest\n"),
        ("values.yaml", 'image:\n  repository: joyent/triton-cns\n  tag: "1.0"\nservice: {port: 8000}\n'),
        ("ship.ini", "[ship]\ncommand=triton --profile\nimage=tritondatacenter/triton:latest\n"),
        (
            "extract.sh",
            "if [ -f /opt/tritonserver/bin/tritonserver ]; then\n"
            '  cp "$ROOT/opt/tritonserver/bin/tritonserver" "$OUT/bin/tritonserver"\nfi\n'
            "command -v tritonserver >/dev/null || echo no tritonserver\npkill -f tritonserver\n",
        ),
        ("graph.pbtxt", "node {\n  name: 'x'\n  op: 'Const'\n  input: 'y'\n}\n"),
        (
            "README.md",
            "```\ndocker run nvcr.io/nvidia/tritonserver:24.01-py3 tritonserver --model-repository=/m\n```\n",
        ),
    ],
)
def test_what_is_no_deployment_has_no_findings(name: str, text: str, tmp_path: Path) -> None:
    """The language called Triton, label maps, other servers of the same protocol, and prose start no Triton."""
    from tritium.migration.audit import audit  # noqa: PLC0415  (beside its one use)

    (tmp_path / name).write_text(text)
    report = audit(tmp_path)
    assert not report.is_deployment
    assert report.findings == ()


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("run.sh", "mpirun --allow-run-as-root -n 1 \\\n  tritonserver --model-repository=/m : -n 1 x\n", True),
        ("a.py", "cmd = ['mpirun', '-np', n]\ncmd += ['/opt/tritonserver/bin/tritonserver', f'--id=rank{i}']\n", True),
        ("run.sh", "# mpirun -n 2\ntritonserver --model-repository=/m\n", False),
        ("run.sh", "mpirun -n 2 python3 build.py\n\ntritonserver --model-repository=/m\n", False),
        ("Dockerfile", f"FROM {HEAD}:24.01-py3\nRUN apt-get install openmpi\nCMD tritonserver --id=x\n", False),
    ],
)
def test_a_server_under_mpi_is_for_a_person(name: str, text: str, found: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """MPI around the server's own name is told of, and not what stands apart from it."""
    rules = [finding.rule for finding in check(read(tmp_path, name, text))]
    assert ("L05" in rules) is found


def test_rules_in_a_config_map_are_told_once(tmp_path: Path) -> None:
    """A file within a manifest is read for images and for expressions, each of them once."""
    alert = "groups:\n    - rules:\n      - alert: slow\n        expr: rate(nv_gpu_utilization[5m]) > 1\n"
    manifest = f"kind: ConfigMap\nimage: {HEAD}:24.01-py3\ndata:\n  rules.yml: |\n    {alert}"
    assert [f.rule for f in check(read(tmp_path, "map.yaml", manifest)) if f.rule.startswith("O")] == ["O02"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Dockerfile", f"ARG BASE={HEAD}\nARG TAG=24.01-py3\nFROM ${{BASE}}:${{TAG}}\nCMD tritonserver --id=x\n"),
        ("run.sh", f'IMAGE="{HEAD}"\nTAG=24.01-py3\ndocker run $IMAGE:$TAG tritonserver --id=x\n'),
        (".env", f"TRITON_IMAGE={HEAD}\nTRITON_TAG=24.01-py3\n"),
        ("Makefile", f"IMAGE ?= {HEAD}\nTAG := 24.01-py3\nrun:\n\tdocker run $(IMAGE):$(TAG) tritonserver --id=x\n"),
    ],
)
def test_a_tag_in_a_variable_of_its_own_is_replaced_too(name: str, text: str, tmp_path: Path) -> None:
    """The image never comes to have two tags."""
    deployment = read(tmp_path, name, text)
    edits = [edit for found in check(deployment) if found.rule == "L01" and found.fix for edit in found.fix.edits]
    after = rewrite(text, edits)
    assert after == text.replace(HEAD, "tritium").replace("24.01-py3", "latest")


def test_a_tag_that_is_elsewhere_is_for_who_asks(tmp_path: Path) -> None:
    """The repository alone is replaced, and not without being asked for."""
    (found,) = [one for one in check(read(tmp_path, ".env", f"IMAGE={HEAD}\n")) if one.rule == "L01"]
    assert found.fix is not None
    assert ([edit.new for edit in found.fix.edits], found.fix.safe) == (["tritium"], False)


def test_a_charts_tag_tells_what_its_image_is_for(tmp_path: Path) -> None:
    """A repository and a tag that stand apart are one image: -sdk in the tag makes it the client's."""
    text = "server:\n  image: {repository: nvcr.io/nvidia/tritonserver, tag: 24.01-py3}\n"
    found = read(tmp_path, "values.yaml", text + text.replace("server:", "client:", 1).replace("py3}", "py3-sdk}"))
    assert [image.role for _, image in found.images()] == [Role.SERVER, Role.CLIENT]


@pytest.mark.parametrize(("name", "text"), [case[:2] for case in CASES], ids=[case[0] for case in CASES])
def test_fixes_are_made_once(name: str, text: str, tmp_path: Path) -> None:
    """After all fixes the same images and commands are there by number, none of them has a fix left."""
    before = read(tmp_path, name, text)
    edits = [edit for finding in check(before) if finding.fix for edit in finding.fix.edits]
    after = read(tmp_path, name, rewrite(text, edits))
    assert [finding for finding in check(after) if finding.fix] == []
    assert len(list(after.commands())) == len(list(before.commands()))
    assert HEAD not in rewrite(text, edits) or name == "guide.ipynb"
