"""Forests: what is told of a model, what is refused, and what comes out."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.fil.backend import FilBackend
from tritium.backends.hosted.configured import Refused
from tritium.backends.hosted.model import HostedModel
from tritium.backends.python.starter import load_message
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.pb_utils import InferenceRequest, Tensor
from tritium.compat.protobufs import model_config_pb2
from tritium.core.errors import InvalidArgument, Unavailable
from tritium.core.replies import SingleReply
from tritium.core.request import InferRequest
from tritium.core.tensor import from_array
from tritium.core.tensor_model import TensorModel

treelite = pytest.importorskip("treelite", reason="the fil backend needs treelite")
forest = pytest.importorskip("tritium.backends.fil.forest")

KIND = 'parameters { key: "model_type" value { string_value: "treelite_checkpoint" } }'
ROWS = np.array([[0, 9], [1, 9]], "f4")


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


def tensors(features: int = 2, width: int = 1) -> str:
    return (
        f'max_batch_size: 8 input {{ name: "input__0" data_type: TYPE_FP32 dims: {features} }} '
        f'output {{ name: "output__0" data_type: TYPE_FP32 dims: {width} }}'
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Return a function that writes a forest as version 1.

    It has a tree a class, of one test: a row whose first feature is below 0.5 has the tree's left leaf, else its right.
    """

    def write_forest(task: str, leaves: list[tuple[float, float]], postprocessor: str) -> None:
        make = treelite.model_builder
        builder = make.ModelBuilder(
            threshold_type="float32",
            leaf_output_type="float32",
            metadata=make.Metadata(
                num_feature=2, task_type=task, average_tree_output=False, num_target=1, num_class=[len(leaves)],
                leaf_vector_shape=(1, 1),
            ),
            tree_annotation=make.TreeAnnotation(
                num_tree=len(leaves), target_id=[0] * len(leaves), class_id=list(range(len(leaves)))
            ),
            postprocessor=make.PostProcessorFunc(name=postprocessor),
            base_scores=[0.0] * len(leaves),
        )  # fmt: skip
        for left, right in leaves:
            builder.start_tree()
            builder.start_node(0)
            builder.numerical_test(
                feature_id=0, threshold=0.5, default_left=True, opname="<", left_child_key=1, right_child_key=2
            )
            builder.end_node()
            for key, value in ((1, left), (2, right)):
                builder.start_node(key)
                builder.leaf(value)
                builder.end_node()
            builder.end_tree()
        (tmp_path / "1").mkdir(exist_ok=True)
        builder.commit().serialize(tmp_path / "1" / "checkpoint.tl")

    return write_forest


@pytest.fixture
def configure() -> Callable[[str], ModelConfig]:
    """Return a function that reads a configuration of a model m."""

    def read(pbtxt: str) -> ModelConfig:
        return from_proto(text_format.Parse(f'name: "m" backend: "fil" {pbtxt}', model_config_pb2.ModelConfig()))

    return read


@pytest.fixture
def load(tmp_path: Path, configure: Callable[[str], ModelConfig]) -> Callable[[str], HostedModel]:
    """Return a function that loads the forest in tmp_path into this process, by the class that its process runs."""

    def load_here(pbtxt: str) -> HostedModel:
        source = ModelSource(configure(KIND + pbtxt), tmp_path, "1")
        loaded: HostedModel = forest.TritonPythonModel()
        loaded.initialize(load_message(source, InstancePlace("m_0"), runtime="any").arguments)
        return loaded

    return load_here


def request(rows: np.ndarray) -> InferenceRequest:
    return InferenceRequest(inputs=[Tensor("input__0", rows)], model_name="m", requested_output_names=[])


def run(model: HostedModel, rows: np.ndarray = ROWS) -> np.ndarray:
    (response,) = model.execute(
        [InferenceRequest(inputs=[Tensor("input__0", rows)], model_name="m", requested_output_names=[])]
    )
    assert response.error() is None, response.error().message()
    return response.output_tensors()[0].as_numpy()


BINARY = ("kBinaryClf", [(-1.0, 2.0)], "sigmoid")
LOW, HIGH = 1 / (1 + np.exp(1)), 1 / (1 + np.exp(-2))


@pytest.mark.parametrize(
    ("extra", "width", "expected"),
    [
        ("", 1, [[0], [1]]),
        (parameter("threshold", "0.9"), 1, [[0], [0]]),
        (parameter("predict_proba", "true"), 1, [[LOW], [HIGH]]),
        (parameter("predict_proba", "true"), 2, [[1 - LOW, LOW], [1 - HIGH, HIGH]]),
        (parameter("is_classifier", "false"), 1, [[LOW], [HIGH]]),
        (parameter("output_class", "false"), 1, [[LOW], [HIGH]]),
    ],
    ids=["class", "threshold", "probability", "both probabilities", "no classifier", "no classifier, as it was called"],
)
def test_two_classes(write, load, extra: str, width: int, expected: list[list[float]]) -> None:
    """A class by threshold, the probability of the second class, or of both where two values are configured."""
    write(*BINARY)
    answer = run(load(tensors(width=width) + extra))
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected, rtol=1e-6)


def test_many_classes(write, load) -> None:
    """The number of the likeliest class, or every class's probability."""
    write("kMultiClf", [(3.0, 0.0), (0.0, 1.0), (1.0, 4.0)], "softmax")
    assert run(load(tensors())).tolist() == [[0], [2]]
    every = run(load(tensors(width=3) + parameter("predict_proba", "true")))
    scores = np.exp([[3, 0, 1], [0, 1, 4]])
    np.testing.assert_allclose(every, scores / scores.sum(axis=1, keepdims=True), rtol=1e-6)


def test_regression(write, load) -> None:
    """A regressor answers its sum of leaves; missing values take the default way."""
    write("kRegressor", [(1.5, -2.5)], "identity")
    assert run(load(tensors()), np.array([[np.nan, 0], [7, 0]], "f4")).tolist() == [[1.5], [-2.5]]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (tensors().replace("input__0", "x"), "a forest has one input, 'input__0'; model 'm' is configured with x"),
        (tensors().replace("TYPE_FP32", "TYPE_FP64", 1), "unsupported datatype TYPE_FP64 for input 'input__0'"),
        (tensors(features=3), "the model has 2 features but the model configuration specifies [3]"),
        (
            tensors() + 'output { name: "treeshap_output" data_type: TYPE_FP32 dims: 3 }',
            "explanations are not computed",
        ),
        (tensors() + parameter("threshold", "half"), "failed to convert 'half' to double number"),
        (tensors() + parameter("predict_proba", "so"), "failed to convert 'so' to boolean"),
    ],
)
def test_what_does_not_fit_is_refused(write, load, config: str, said: str) -> None:
    """Names, datatypes, features and parameters are checked when the model is loaded."""
    write(*BINARY)
    with pytest.raises(Refused) as refused:
        load(config)
    assert said in str(refused.value)


def test_more_values_than_the_model_gives_fail_the_request(write, load) -> None:
    """An output wider than the model's answer is told with both sides."""
    write(*BINARY)
    (response,) = load(tensors(width=5)).execute([request(ROWS)])
    assert "output 'output__0' is configured as [5], but the model gives 1 values a row" in response.error().message()


XGBOOST = {
    "learner": {
        "attributes": {}, "feature_names": [], "feature_types": [],
        "gradient_booster": {
            "model": {
                "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": "1"}, "iteration_indptr": [0, 1],
                "tree_info": [0],
                "trees": [{
                    "base_weights": [0.0, 1.5, -2.5], "categories": [], "categories_nodes": [],
                    "categories_segments": [], "categories_sizes": [], "default_left": [1, 0, 0], "id": 0,
                    "left_children": [1, -1, -1], "loss_changes": [1.0, 0.0, 0.0], "parents": [2147483647, 0, 0],
                    "right_children": [2, -1, -1], "split_conditions": [0.5, 1.5, -2.5], "split_indices": [0, 0, 0],
                    "split_type": [0, 0, 0], "sum_hessian": [2.0, 1.0, 1.0],
                    "tree_param": {"num_deleted": "0", "num_feature": "2", "num_nodes": "3", "size_leaf_vector": "1"},
                }],
            },
            "name": "gbtree",
        },
        "learner_model_param": {"base_score": "0E0", "boost_from_average": "1", "num_class": "0", "num_feature": "2",
                                "num_target": "1"},
        "objective": {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}},
    },
    "version": [2, 0, 3],
}  # fmt: skip
LIGHTGBM = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=regression
feature_names=a b
feature_infos=[0:1] [0:1]
tree_sizes=200

Tree=0
num_leaves=2
num_cat=0
split_feature=0
split_gain=1
threshold=0.5
decision_type=2
left_child=-1
right_child=-2
leaf_value=1.5 -2.5
leaf_weight=1 1
leaf_count=1 1
internal_value=0
internal_weight=2
internal_count=2
is_linear=0
shrinkage=1


end of trees
"""


@pytest.mark.parametrize(
    ("kind", "file", "text"),
    [("xgboost_json", "xgboost.json", json.dumps(XGBOOST)), ("lightgbm", "model.txt", LIGHTGBM)],
)
async def test_served_from_nothing_but_the_file(
    tmp_path: Path, configure: Callable[[str], ModelConfig], kind: str, file: str, text: str
) -> None:
    """Completed in one process, run in another: a model as XGBoost and LightGBM write it."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / file).write_text(text)
    backend = FilBackend()
    config = await backend.complete(configure("max_batch_size: 8 " + parameter("model_type", kind)), tmp_path, "1")
    assert (config.inputs["input__0"].dims, config.outputs["output__0"].dims) == ((2,), (1,))
    instance = await backend.open(ModelSource(config, tmp_path, "1"), InstancePlace("m_0"), BackendHost())
    model = TensorModel(config, "1", [instance])
    reply = SingleReply(asyncio.get_running_loop())
    model.submit(InferRequest("m", inputs=[from_array("input__0", ROWS, "FP32")]), reply)
    try:
        response = await asyncio.wait_for(reply.future, 60)
    finally:
        await model.close()
    assert response.outputs[0].array().tolist() == [[1.5], [-2.5]]


async def test_files_that_are_no_forest(tmp_path: Path, configure: Callable[[str], ModelConfig]) -> None:
    """An unknown kind and a missing file are told without a process; a file of another kind with Treelite's reason."""
    with pytest.raises(InvalidArgument, match="model_type 'onnx' of model 'm' is unknown"):
        await FilBackend().complete(configure(parameter("model_type", "onnx")), tmp_path, "1")
    with pytest.raises(Unavailable, match=r"unable to find '.*/1/checkpoint.tl'"):
        await FilBackend().complete(configure(KIND), tmp_path, "1")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.txt").write_text("tree of life")
    with pytest.raises(Exception, match=r"model.txt is no model of type 'lightgbm': "):
        await FilBackend().complete(configure(parameter("model_type", "lightgbm")), tmp_path, "1")
