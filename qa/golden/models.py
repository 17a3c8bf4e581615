"""Writes the model repository that the recorded cases ask: `python qa/golden/models.py FOLDER`.

Each model shows one thing: datatypes, batching, reshaping, versions, labels, decoupled answers, error codes. The
recorded answers of a real Triton come from models of these names and configurations.
"""

import sys
from pathlib import Path

TYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
TYPES += ("FP16", "FP32", "FP64", "STRING", "BF16")


def tensor(name: str, kind: str, dims: int, more: str = "") -> str:
    """Write an input or output of one dimension."""
    return f'{{ name: "{name}" data_type: TYPE_{kind} dims: {dims} {more} }}'


def config(inputs: list[str], outputs: list[str], more: str = "", batch: int = 0) -> str:
    """Write a configuration of a python model; its name is its folder's."""
    return "\n".join(
        [
            'backend: "python"',
            f"max_batch_size: {batch}",
            *(f"input {entry}" for entry in inputs),
            *(f"output {entry}" for entry in outputs),
            "instance_group { kind: KIND_CPU count: 1 }",
            more,
        ]
    )


def add_sub_config(dims: int = 4, batch: int = 0, more: str = "", labels: str = "") -> str:
    """Write the configuration of two inputs and two outputs."""
    return config(
        [tensor("INPUT0", "FP32", dims), tensor("INPUT1", "FP32", dims)],
        [tensor("OUTPUT0", "FP32", dims, labels), tensor("OUTPUT1", "FP32", dims)],
        more,
        batch,
    )


HEAD = """import numpy as np
import triton_python_backend_utils as pb_utils


def read(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def answer(**outputs):
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])


def strings(*values):
    return np.array([value.encode() for value in values], dtype=np.object_)

"""

ADD_SUB = """
class TritonPythonModel:
    def execute(self, requests):
        pairs = [(read(request, "INPUT0"), read(request, "INPUT1")) for request in requests]
        return [answer(OUTPUT0=a + b, OUTPUT1=a - b) for a, b in pairs]
"""

SLOW_ADD_SUB = """
import time


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.3)
        pairs = [(read(request, "INPUT0"), read(request, "INPUT1")) for request in requests]
        return [answer(OUTPUT0=a + b, OUTPUT1=a - b) for a, b in pairs]
"""

IDENTITY = """
class TritonPythonModel:
    def execute(self, requests):
        return [answer(OUTPUT0=read(request, "INPUT0")) for request in requests]
"""

ALL_TYPES = f"""
TYPES = {TYPES}


class TritonPythonModel:
    def execute(self, requests):
        return [self.echo(request) for request in requests]

    def echo(self, request):
        outputs = []
        for kind in TYPES:
            tensor = pb_utils.get_input_tensor_by_name(request, "IN_" + kind)
            if tensor is None:
                continue
            if kind == "BF16":  # numpy has no such type
                outputs.append(pb_utils.Tensor.from_dlpack("OUT_" + kind, tensor.to_dlpack()))
            else:
                outputs.append(pb_utils.Tensor("OUT_" + kind, tensor.as_numpy()))
        return pb_utils.InferenceResponse(outputs)
"""

REPEAT = """
import time


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            self.answer(request, request.get_response_sender())

    def answer(self, request, sender):
        delay, error_at = read(request, "DELAY_MS"), read(request, "ERR_AT")
        for index in range(int(read(request, "COUNT")[0])):
            if delay is not None:
                time.sleep(int(delay[0]) / 1000)
            if error_at is not None and index == int(error_at[0]):
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(f"error at {index}")))
            else:
                sender.send(answer(OUT=np.array([index], np.int32), TEXT=strings(f"tok{index} ")))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

# The recorded traceback names `execute` alone, so nothing here may go through a function of its own.
LLM = """
import json


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            text = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy().flat[0].decode()
            stream = read(request, "stream")
            parameters = json.loads(request.parameters() or "{}")
            said = text.split()
            if parameters:
                said.append("params=" + json.dumps(parameters, sort_keys=True))
            if stream is None or not stream.flat[0]:
                said = [" ".join(said)]
            sender = request.get_response_sender()
            for word in said:
                sender.send(answer(text_output=strings(word)))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

ACCUMULATE = """
class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        return [self.add(request) for request in requests]

    def add(self, request):
        start, end, ready, sequence = (int(read(request, name).flat[0]) for name in ("START", "END", "READY", "CORRID"))
        total = (0 if start else self.sums.get(sequence, 0)) + int(read(request, "INPUT").flat[0])
        self.sums[sequence] = total
        if end:
            del self.sums[sequence]
        return answer(
            OUTPUT=np.array([[total]], np.int32), CTL=np.array([[start, end, ready, sequence]], np.int64)
        )
"""

RAISES = """
class TritonPythonModel:
    def execute(self, requests):
        raise RuntimeError("boom in execute")
"""

ERROR_CODES = """
CODES = ["UNKNOWN", "INTERNAL", "NOT_FOUND", "INVALID_ARG", "UNAVAILABLE", "UNSUPPORTED", "ALREADY_EXISTS", "CANCELLED"]


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(error=self.error(int(read(request, "INPUT0")[0]))) for request in requests]

    def error(self, code):
        if code < 0:
            return pb_utils.TritonError("plain error")
        return pb_utils.TritonError("coded " + CODES[code], getattr(pb_utils.TritonError, CODES[code]))
"""

AUTO = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(8)
        config.set_dynamic_batching()
        return config

    def execute(self, requests):
        return [answer(OUTPUT0=read(request, "INPUT0")) for request in requests]
"""

ENSEMBLE = """platform: "ensemble"
max_batch_size: 0
input { name: "A" data_type: TYPE_FP32 dims: 4 }
input { name: "B" data_type: TYPE_FP32 dims: 4 }
output { name: "SUM2" data_type: TYPE_FP32 dims: 4 }
output { name: "DIFF2" data_type: TYPE_FP32 dims: 4 }
ensemble_scheduling {
  step {
    model_name: "add_sub" model_version: -1
    input_map { key: "INPUT0" value: "A" } input_map { key: "INPUT1" value: "B" }
    output_map { key: "OUTPUT0" value: "s" } output_map { key: "OUTPUT1" value: "d" }
  }
  step {
    model_name: "add_sub" model_version: -1
    input_map { key: "INPUT0" value: "s" } input_map { key: "INPUT1" value: "d" }
    output_map { key: "OUTPUT0" value: "SUM2" } output_map { key: "OUTPUT1" value: "DIFF2" }
  }
}
"""

DECOUPLED = "model_transaction_policy { decoupled: true }"
LABELS = 'label_filename: "labels.txt"'
RESHAPED = "reshape { shape: [ 2, 2 ] }"
QUEUE = """dynamic_batching {
  max_queue_delay_microseconds: 100
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy { timeout_action: REJECT allow_timeout_override: true max_queue_size: 4 }
}"""


def control(name: str, kind: str) -> str:
    """Write a control input that is 1 where its flag is set."""
    flag = f"control {{ kind: CONTROL_SEQUENCE_{kind} fp32_false_true: [ 0, 1 ] }}"
    return f'control_input {{ name: "{name}" {flag} }}'


CORRELATION = "control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }"
SEQUENCES = f"""sequence_batching {{
  max_sequence_idle_microseconds: 5000000
  {control("START", "START")}
  {control("END", "END")}
  {control("READY", "READY")}
  control_input {{ name: "CORRID" {CORRELATION} }}
}}"""


def identity_config(kind: str, batch: int = 0) -> str:
    """Write the configuration of one input and one output of any length."""
    return config([tensor("INPUT0", kind, -1)], [tensor("OUTPUT0", kind, -1)], batch=batch)


MODELS = {
    "accum": (
        config(
            [tensor("INPUT", "INT32", 1)],
            [tensor("OUTPUT", "INT32", 1), tensor("CTL", "INT64", 4)],
            SEQUENCES,
            batch=4,
        ),
        ACCUMULATE,
    ),
    "add_sub": (add_sub_config(labels=LABELS), ADD_SUB),
    "add_sub_16": (add_sub_config(16), ADD_SUB),
    "add_sub_16b": (add_sub_config(16, 64, "dynamic_batching {}"), ADD_SUB),
    "add_sub_batch": (add_sub_config(4, 64, "dynamic_batching {}", LABELS), ADD_SUB),
    "all_types": (
        config(
            [tensor(f"IN_{kind}", kind, -1, "optional: true") for kind in TYPES],
            [tensor(f"OUT_{kind}", kind, -1) for kind in TYPES],
        ),
        ALL_TYPES,
    ),
    "auto": ("", AUTO),
    "cached": (add_sub_config(more="response_cache { enable: true }"), ADD_SUB),
    "err_resp": (add_sub_config(), ERROR_CODES),
    "identity_fp32": (identity_config("FP32"), IDENTITY),
    "identity_string": (identity_config("STRING"), IDENTITY),
    "identity_string_batch": (identity_config("STRING", 8), IDENTITY),
    "llm": (
        config(
            [
                tensor("text_input", "STRING", 1),
                tensor("stream", "BOOL", 1, "optional: true"),
                tensor("max_tokens", "INT32", 1, "optional: true"),
            ],
            [tensor("text_output", "STRING", -1)],
            DECOUPLED,
        ),
        LLM,
    ),
    "prio": (add_sub_config(4, 8, QUEUE), SLOW_ADD_SUB),
    "raise_exec": (add_sub_config(), RAISES),
    "repeat": (
        config(
            [
                tensor("COUNT", "INT32", 1),
                tensor("DELAY_MS", "INT32", 1, "optional: true"),
                tensor("ERR_AT", "INT32", 1, "optional: true"),
            ],
            [tensor("OUT", "INT32", 1), tensor("TEXT", "STRING", 1)],
            DECOUPLED,
        ),
        REPEAT,
    ),
    "reshape": (
        config(
            [tensor("INPUT0", "FP32", 4, RESHAPED)],
            [tensor("OUTPUT0", "FP32", 4, RESHAPED)],
            'parameters { key: "my_key" value { string_value: "my value" } }',
        ),
        IDENTITY,
    ),
    "versions": (add_sub_config(more="version_policy { specific { versions: [ 1, 3 ] } }"), ADD_SUB),
}
VERSIONS = {"versions": (1, 2, 3)}


def write(folder: Path) -> None:
    """Write the repository."""
    for name, (text, source) in MODELS.items():
        for version in VERSIONS.get(name, (1,)):
            home = folder / name / str(version)
            home.mkdir(parents=True)
            (home / "model.py").write_text(HEAD + source)
        if text:
            (folder / name / "config.pbtxt").write_text(text)
        if "labels.txt" in text:
            (folder / name / "labels.txt").write_text("zero\none\ntwo\nthree\n")
    (folder / "ens" / "1").mkdir(parents=True)
    (folder / "ens" / "config.pbtxt").write_text(ENSEMBLE)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
