"""Plans for platforms: KServe's services and runtimes, and what Kubernetes' own schemas say of what is written."""

import os
import shutil
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types

from tritium.migration.applying.in_place import apply_in_place, roll_back
from tritium.migration.planning.planner import ALL, NoDeployment, Wishes, make_plan

SAMPLE = Path(__file__).parents[2] / "migration" / "sample"
EVERYTHING = Wishes(unsafe=frozenset({ALL}))
HEAD = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata:\n  name: bert\n"
FORMS = {
    "a format": "spec:\n  predictor:\n    model:  # kept\n      modelFormat: {name: triton}\n      storageUri: gs://m\n",
    "a runtime": (
        "spec:\n  predictor:\n    model:\n      modelFormat:\n        name: triton\n"
        "      runtime: kserve-tritonserver\n      storageUri: gs://m\n"
    ),
    "the legacy form": "spec:\n  predictor:\n    triton:\n      storageUri: gs://m\n      runtimeVersion: 20.10-py3\n",
    "its version first": "spec:\n  predictor:\n    triton:\n      runtimeVersion: 20.10-py3\n      storageUri: gs://m\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_an_inference_service_names_a_runtime_of_tritium(form: str, tmp_path: Path) -> None:
    """Beside it stands the runtime, new; both go away with a rollback. A second plan has nothing to do."""
    text = HEAD + FORMS[form]
    (tmp_path / "isvc.yaml").write_text(text)
    plan = make_plan(tmp_path, EVERYTHING)
    assert set(plan.results) == {"isvc.yaml", "tritium-runtime.yaml"}
    apply_in_place(plan, tmp_path)
    model = yaml.safe_load((tmp_path / "isvc.yaml").read_text())["spec"]["predictor"]["model"]
    assert model == {"modelFormat": {"name": "triton"}, "runtime": "tritium", "storageUri": "gs://m"}
    assert ("# kept" in (tmp_path / "isvc.yaml").read_text()) == ("# kept" in text)
    runtime = yaml.safe_load((tmp_path / "tritium-runtime.yaml").read_text())
    assert (runtime["kind"], runtime["metadata"]) == ("ServingRuntime", {"name": "tritium"})
    assert runtime["spec"]["containers"][0]["image"] == "tritium:latest"
    again = make_plan(tmp_path, EVERYTHING)
    assert (again.changes, again.withheld) == ([], [])
    roll_back(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"isvc.yaml": text}


def test_a_service_goes_to_another_runtime_only_for_who_asks(tmp_path: Path) -> None:
    """The runtime has to be in the cluster first."""
    (tmp_path / "isvc.yaml").write_text(HEAD + FORMS["a format"])
    plan = make_plan(tmp_path, Wishes())
    assert plan.changes == []
    assert [one.change.rule for one in plan.withheld] == ["L15"]


def complaints(root: Path) -> dict[str, list[str]]:
    """Return, by file, what Kubernetes' schemas have against the objects of its own kinds; templates aside."""
    validate = pytest.importorskip("kubernetes_validate")
    found: dict[str, list[str]] = {}
    for path in sorted(root.rglob("*.y*ml")):
        try:
            objects = list(yaml.safe_load_all(path.read_text(errors="replace")))
        except yaml.YAMLError:
            continue
        for one in objects:
            if isinstance(one, dict) and "apiVersion" in one and "kind" in one:
                try:
                    validate.validate(one, "1.34", strict=True)
                except validate.SchemaNotFoundError:
                    continue
                except validate.ValidationError as error:
                    found.setdefault(str(path.relative_to(root)), []).append(error.message)
    return found


def test_the_samples_manifests_are_kubernetes_own(tmp_path: Path) -> None:
    """The migrated Deployment and Service pass the schemas that the API server's types are made into."""
    shop = Path(shutil.copytree(SAMPLE, tmp_path / "shop"))
    apply_in_place(make_plan(shop, EVERYTHING), shop)
    assert complaints(shop) == {}
    manifest = shop / "k8s/deployment.yaml"
    manifest.write_text(manifest.read_text().replace("replicas: 1", "replicas: one"))
    assert list(complaints(shop)) == ["k8s/deployment.yaml"], "the schemas find what is wrong"


def test_real_manifests_pass_as_before(tmp_path: Path) -> None:
    """Of the corpus: what the schemas took they still take, and they find nothing new."""
    corpus = Path(os.environ.get("TRITIUM_CORPUS", "."), "deployments")
    if not corpus.is_dir():
        pytest.skip("TRITIUM_CORPUS names no folder with a `deployments` folder of Triton deployments")
    for folder in sorted(one for one in corpus.iterdir() if one.is_dir()):
        root = Path(shutil.copytree(folder, tmp_path / folder.name, symlinks=True))
        try:
            plan = make_plan(root, EVERYTHING)
        except NoDeployment:
            continue
        before = complaints(root)
        apply_in_place(plan, root)
        assert complaints(root) == before, folder.name
