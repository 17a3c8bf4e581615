"""Train the classifier of text_pipeline and write 1/model.onnx. The same messages give the same file.

    python model_repository/text_model/train.py

A bag of words: each word number has a weight for each label, a text's score is their mean, softmax makes
probabilities. Needs numpy and onnx; takes a second.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
STEPS = 400
RATE = 8.0
DECAY = 1e-4


def load_words() -> ModuleType:
    """Return the tokenizer's own module, so that training and serving count words alike."""
    spec = importlib.util.spec_from_file_location("words", HERE.parent / "text_tokenizer" / "1" / "words.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_messages(labels: list[str], words: ModuleType) -> tuple[np.ndarray, np.ndarray]:
    """Return word counts, scaled to mean 1 a row, and label numbers."""
    pairs = [line.split("\t") for line in (HERE / "messages.tsv").read_text().splitlines()]
    features = np.zeros((len(pairs), words.BUCKETS), np.float32)
    for row, (_, text) in zip(features, pairs, strict=True):
        numbers = [number for number in words.word_numbers(text) if number]
        np.add.at(row, numbers, 1.0 / len(numbers))
    return features, np.array([labels.index(label) for label, _ in pairs])


def train(features: np.ndarray, targets: np.ndarray, label_count: int) -> np.ndarray:
    """Return the weights of a softmax regression, by plain gradient descent."""
    weights = np.zeros((features.shape[1], label_count), np.float32)
    wanted = np.eye(label_count, dtype=np.float32)[targets]
    for _ in range(STEPS):
        scores = features @ weights
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        error = odds / odds.sum(axis=1, keepdims=True) - wanted
        weights -= RATE * (features.T @ error / len(features) * label_count + DECAY * weights)
    return weights


def build(weights: np.ndarray, length: int) -> onnx.ModelProto:
    """Return the graph: look the words up, take the mean over those that are there, softmax."""
    label_count = weights.shape[1]
    constants = {
        "weights": weights,
        "nothing": np.array(0, np.int64),
        "one": np.array(1, np.float32),
        "words_axis": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["weights", "WORDS"], ["looked_up"]),
        helper.make_node("ReduceSum", ["looked_up", "words_axis"], ["sum"], keepdims=0),
        helper.make_node("Equal", ["WORDS", "nothing"], ["absent"]),
        helper.make_node("Not", ["absent"], ["present"]),
        helper.make_node("Cast", ["present"], ["present_f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["present_f", "words_axis"], ["present_count"], keepdims=1),
        helper.make_node("Max", ["present_count", "one"], ["count"]),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Softmax", ["mean"], ["PROBABILITIES"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "kind_of_message",
        [helper.make_tensor_value_info("WORDS", TensorProto.INT64, ["batch", length])],
        [helper.make_tensor_value_info("PROBABILITIES", TensorProto.FLOAT, ["batch", label_count])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Train, write the model, and say how well it does on what it has seen."""
    words = load_words()
    labels = (HERE / "labels.txt").read_text().split()
    features, targets = read_messages(labels, words)
    weights = train(features, targets, len(labels))
    # Word number 0 is the padding of a row and must add nothing.
    weights[0] = 0
    onnx.save(build(weights, words.LENGTH), HERE / "1" / "model.onnx")
    right = ((features @ weights).argmax(axis=1) == targets).mean()
    print(f"{len(targets)} messages, {right:.0%} recognised, {HERE / '1' / 'model.onnx'} written")


if __name__ == "__main__":
    main()
