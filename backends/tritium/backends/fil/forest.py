"""A forest in its process: loaded and predicted by Treelite, its scores turned into what the configuration asks for.

A classifier answers the number of a class, or with `predict_proba` the probability of each; everything else its
prediction. Rules: tl_model.h and shared_state.h of fil_backend (26.x); older parameters mean what they meant.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import treelite

from tritium.backends.fil.files import DEFAULT_KIND, FILES
from tritium.backends.hosted.batch import Batch, Value
from tritium.backends.hosted.configured import Configured, Refused
from tritium.backends.hosted.model import HostedModel
from tritium.compat import pb_utils
from tritium.compat.pb_utils import TritonError

INPUT: Final = "input__0"
OUTPUT: Final = "output__0"
_BINARY, _MULTI = 0, 2  # of treelite::TaskType


class TritonPythonModel(HostedModel):
    """One forest."""

    @staticmethod
    def auto_complete_config(config: pb_utils.ModelConfig) -> pb_utils.ModelConfig:
        """Fill in the input and the output, by the features and classes of the forest."""
        found: dict[str, Any] = dict(config.as_dict())
        parameters = {name: value["string_value"] for name, value in found["parameters"].items()}
        kind = parameters.get("model_type", DEFAULT_KIND)
        forest = _load(
            Path(pb_utils.get_model_dir()) / (found["default_model_filename"] or FILES[kind]), kind, parameters
        )
        every_class = parameters.get("predict_proba", "").lower() == "true"
        rows = [] if found["max_batch_size"] else [-1]
        for role, name, width in (
            ("input", INPUT, forest.num_feature),
            ("output", OUTPUT, int(_field(forest, "num_class")) if every_class else 1),
        ):
            found[role] = found[role] or [{"name": name, "data_type": "TYPE_FP32", "dims": [*rows, width]}]
        return pb_utils.ModelConfig(json.dumps(found))

    def load(self, model: Configured) -> None:
        """Load the forest and check the configuration against it."""
        kind = model.parameters.get("model_type", DEFAULT_KIND)
        self._forest = _load(model.version_folder / (model.filename or FILES[kind]), kind, model.parameters)
        self._every_class = model.flag("predict_proba", default=False)
        task = int(_field(self._forest, "task_type"))
        old = model.flag("output_class", default=task in (_BINARY, _MULTI))
        self._classifies = model.flag("is_classifier", default=old)
        self._threshold = _number(model, "threshold", 0.5)
        self._threads = model.count("cpu_nthread", -1)
        if self._every_class and task == _MULTI:
            header = self._forest.get_header_accessor()
            by_leaf = int(header.get_field("leaf_vector_shape")[1]) > 1
            header.set_field("postprocessor", "identity_multiclass" if by_leaf else "softmax")
        _check(model, self._forest.num_feature)
        self._dims = model.outputs[OUTPUT].dims

    def run(self, batch: Batch) -> Mapping[str, Value]:
        """Predict the rows of a batch."""
        given = batch.inputs[INPUT].array
        rows = np.ascontiguousarray(given.reshape(-1, self._forest.num_feature), np.float32)
        try:
            scores = treelite.gtil.predict(self._forest, rows, nthread=self._threads).reshape(len(rows), -1)
        except treelite.TreeliteError as error:
            raise Refused(str(error)) from None
        answers = self._answers(scores)
        dims = (len(rows), *self._dims) if self.model.batches else self._dims
        try:
            return {OUTPUT: Value("FP32", answers.astype(np.float32).reshape(dims))}
        except ValueError:
            raise Refused(
                f"output '{OUTPUT}' is configured as {list(self._dims)}, but the model gives {answers.shape[1]} "
                "values a row",
                TritonError.INVALID_ARG,
            ) from None

    def _answers(self, scores: Any) -> Any:
        if not self._classifies:
            return scores
        if not self._every_class:
            if scores.shape[1] > 1:
                return scores.argmax(axis=1, keepdims=True)
            return scores > self._threshold
        if scores.shape[1] == 1 and self._dims[-1] == 2:
            return np.hstack([1 - scores, scores])
        return scores


def _load(path: Path, kind: str, parameters: Mapping[str, str]) -> Any:
    # A folder holds the file under its usual name.
    path = path / FILES[kind] if path.is_dir() else path
    lenient = parameters.get("xgboost_allow_unknown_field", "").lower() == "true"
    try:
        if kind == "xgboost":
            forest = treelite.frontend.load_xgboost_model_legacy_binary(path)
        elif kind.startswith("xgboost"):
            form = kind.removeprefix("xgboost_")
            forest = treelite.frontend.load_xgboost_model(path, format_choice=form, allow_unknown_field=lenient)
        elif kind == "lightgbm":
            forest = treelite.frontend.load_lightgbm_model(path)
        else:
            forest = treelite.Model.deserialize(path)
    except treelite.TreeliteError as error:
        raise Refused(f"{path.name} is no model of type '{kind}': {error}", TritonError.UNKNOWN) from None
    if int(_field(forest, "num_target")) != 1:
        raise Refused("Multi-target model not supported", TritonError.UNSUPPORTED)
    return forest


def _field(forest: Any, name: str) -> Any:
    return forest.get_header_accessor().get_field(name)[0]


def _check(model: Configured, features: int) -> None:
    for what, ports, name in (("input", model.inputs, INPUT), ("output", model.outputs, OUTPUT)):
        if list(ports) != [name]:
            others = ", ".join(ports) or "none"
            hint = " (explanations are not computed here)" if "treeshap_output" in ports else ""
            raise Refused(
                f"a forest has one {what}, '{name}'; model '{model.name}' is configured with {others}{hint}",
                TritonError.INVALID_ARG,
            )
        if ports[name].datatype != "FP32":
            raise Refused(
                f"unsupported datatype {ports[name].config_type} for {what} '{name}' for model '{model.name}': "
                "forests are predicted in TYPE_FP32",
                TritonError.INVALID_ARG,
            )
    if model.inputs[INPUT].dims[-1:] not in ((features,), (-1,)):
        raise Refused(
            f"model '{model.name}', tensor '{INPUT}': the model has {features} features but the model configuration "
            f"specifies {list(model.inputs[INPUT].dims)}",
            TritonError.INVALID_ARG,
        )


def _number(model: Configured, name: str, default: float) -> float:
    text = model.parameters.get(name, str(default))
    try:
        return float(text)
    except ValueError:
        raise Refused(f"failed to convert '{text}' to double number", TritonError.INVALID_ARG) from None
