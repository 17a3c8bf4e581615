"""Triton's rules: what breaks each of them, in Triton's words, at the field that is at fault."""

import pytest

from tritium.compat.config.defaults import complete_backend, complete_instances, normalize
from tritium.compat.config.ensemble import check_members
from tritium.compat.config.parse import parse_text
from tritium.compat.config.problem import Stage
from tritium.compat.config.validate import check_config, check_load

HEAD = "name: 'm' backend: 'identity'\n"
X = "input { name: 'x' data_type: TYPE_FP32 dims: [ 4 ] }\n"


def read(text, gpus=()):
    parsed = parse_text(text, "f")
    assert parsed.problems == []
    complete_backend(parsed.message, "m", ())
    normalize(parsed.message)
    complete_instances(parsed.message, gpus)
    return parsed


def findings(text, gpus=()):
    config = read(text, gpus).message
    return [*check_config(config), *check_load(config, gpus)]


def control(kind, values):
    return (
        "sequence_batching { control_input { name: 'c' control { kind: CONTROL_SEQUENCE_%s %s } } }" % (kind, values)  # noqa: UP031
    )


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("max_batch_size: -1", "max_batch_size", "'max_batch_size' must be non-negative value for m"),
        ("max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 4, 16 ] }",
         "dynamic_batching.preferred_batch_size.1", "dynamic batching preferred size must be <= max batch size for m"),
        ("max_batch_size: 8 dynamic_batching { preferred_batch_size: 0 }",
         "dynamic_batching.preferred_batch_size.0", "dynamic batching preferred size must be positive for m"),
        ("dynamic_batching { priority_levels: 3 }", "dynamic_batching.default_priority_level",
         "default priority level must be in range [1, 3] for m"),
        ("dynamic_batching { priority_levels: 3 default_priority_level: 1 priority_queue_policy { key: 4 } }",
         "dynamic_batching.priority_queue_policy.4",
         "priority queue policy must have priority level in range [1, 3] for m"),
        ("dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }",
         "dynamic_batching.priority_levels",
         "Only one priority level is allowed when 'preserve_ordering' is true for m"),
        (("dynamic_batching { preserve_ordering: true default_queue_policy {"
         " timeout_action: DELAY default_timeout_microseconds: 1 } }"), "dynamic_batching.default_queue_policy",
         "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for m"),
        (control("START", ""), "sequence_batching.control_input.0.control.0",
         ("sequence batching must specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' for "
         "CONTROL_SEQUENCE_START for m")),
        (control("END", "int32_false_true: [ 0, 1 ] fp32_false_true: [ 0, 1 ]"),
         "sequence_batching.control_input.0.control.0.fp32_false_true",
         ("sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' and 'bool_false_true' "
         "for CONTROL_SEQUENCE_END for m")),
        (control("READY", "fp32_false_true: [ 0, 1, 2 ]"),
         "sequence_batching.control_input.0.control.0.fp32_false_true",
         "sequence batching control 'fp32_false_true' must have exactly 2 entries for CONTROL_SEQUENCE_READY for m"),
        (control("CORRID", "data_type: TYPE_FP32"), "sequence_batching.control_input.0.control.0",
         ("unexpected data type for control CONTROL_SEQUENCE_CORRID for m. Allowed data types are TYPE_UINT64, "
         "TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING")),
        (control("CORRID", "data_type: TYPE_INT64 fp32_false_true: [ 0, 1 ]"),
         "sequence_batching.control_input.0.control.0.fp32_false_true",
         ("sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' for "
         "CONTROL_SEQUENCE_CORRID for m")),
        ("sequence_batching { control_input { control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } } }",
         "sequence_batching.control_input.0", "sequence batching control tensor must have a name for m"),
        ("sequence_batching { oldest { preferred_batch_size: 4 } }",
         "sequence_batching.oldest.preferred_batch_size.0",
         "sequence batching preferred batch size must be <= max batch size for m"),
        ("sequence_batching { direct { minimum_slot_utilization: 1.5 } }",
         "sequence_batching.direct.minimum_slot_utilization",
         "sequence batching minimum slot utilization must be in range (0.0, 1.0] for m"),
        ("sequence_batching { } response_cache { enable: true }", "response_cache",
         ("Response Cache does not currently support model m with sequence batching scheduler. Please disable the "
         "response cache.")),
        ("model_transaction_policy { decoupled: true } response_cache { enable: true }", "response_cache",
         ("Response Cache does not currently support model m with 'decoupled' transaction policy. Please disable the "
         "response cache.")),
        ("model_metrics { metric_control { metric_identifier { } histogram_options { buckets: 1 } } }",
         "model_metrics.metric_control.0", "metric identifier must specify non-empty 'family'"),
        ("model_metrics { metric_control { metric_identifier { family: 'f' } } }",
         "model_metrics.metric_control.0", "metric control must specify 'histogram_options'"),
        ("platform: 'onnxruntime_onnx' ensemble_scheduling { step { model_name: 'a' } }", "ensemble_scheduling",
         "ensemble scheduling cannot be set for model 'm' whose platform is not ensemble"),
        ("input { data_type: TYPE_FP32 dims: 1 }", "input.0", "model input must specify 'name' for m"),
        ("input { name: 'x' dims: 1 }", "input.0.name", "model input 'x' must specify 'data_type' for m"),
        ("output { name: 'y' data_type: TYPE_FP32 }", "output.0.name", "model output 'y' must specify 'dims' for m"),
        ("input { name: 'x' data_type: TYPE_FP32 dims: [ 1, 0 ] }", "input.0.dims.1",
         "model input 'x' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for m"),
        ("input { name: 'x' data_type: TYPE_FP32 dims: [ 1, 2 ] format: FORMAT_NCHW }", "input.0.format",
         "model input NHWC/NCHW require 3 dims for m"),
        ("input { name: 'x' data_type: TYPE_FP32 dims: [ 1 ] is_shape_tensor: true }", "input.0.is_shape_tensor",
         "shape tensors are only supported for TensorRT platform for m"),
        ("input { name: 'x' data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }", "input.0.reshape",
         "model input 'x' cannot have empty reshape for non-batching model as scalar tensors are not supported for m"),
        ("input { name: 'x' data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 3 ] } }", "input.0.reshape",
         "model input 'x' has different size for dims and reshape for m"),
        ("input { name: 'x' data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 0 ] } }", "input.0.reshape.shape.0",
         "model input 'x' reshape dimensions must be integer >= 1, or -1 to indicate a variable-size dimension for m"),
        ("input { name: 'x' data_type: TYPE_FP32 dims: [ -1, 4 ] reshape { shape: [ -1, -1, 4 ] } }",
         "input.0.reshape",
         "model input 'x' has different number of variable-size dimensions for dims and reshape for m"),
        (X + "batch_input { kind: BATCH_ELEMENT_COUNT data_type: TYPE_FP32 source_input: 'z' }",
         "batch_input.0.source_input.0", "unknown source input name 'z' for m"),
        (X + "batch_input { kind: BATCH_ELEMENT_COUNT data_type: TYPE_INT64 source_input: 'x' }",
         "batch_input.0.data_type", "batch input data type must be TYPE_INT32 or TYPE_FP32 for m"),
        (X + "batch_output { source_input: 'x' target_name: 'q' }", "batch_output.0.target_name.0",
         "unknown target output name 'q' for m"),
        ("instance_group { kind: KIND_GPU }", "instance_group.0.kind",
         "instance group m_0 of model m has kind KIND_GPU but no GPUs are available"),
        ("instance_group { kind: KIND_CPU gpus: 0 }", "instance_group.0.gpus",
         "instance group m_0 of model m has kind KIND_CPU but specifies one or more GPUs"),
        ("instance_group { kind: KIND_MODEL gpus: 0 }", "instance_group.0.gpus",
         "instance group m_0 of model m has kind KIND_MODEL but specifies one or more GPUs"),
    ],
)  # fmt: skip
def test_rule(text, where, message):
    """Each broken rule is found once, where it is, in Triton's words."""
    assert [(".".join(map(str, f.where)), f.message) for f in findings(HEAD + text)] == [(where, message)]


@pytest.mark.parametrize(
    "text",
    [
        X,
        "max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 4, 8 ] }",
        "dynamic_batching { }",  # Triton allows it without max_batch_size
        "input { name: 'x' data_type: TYPE_FP32 dims: [ 2, 4, -1, 6 ] reshape { shape: [ 8, -1, 1, 6 ] } }",
        "max_batch_size: 1 input { name: 'x' data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }",
        "instance_group { count: 0 }",
        control("START", "fp32_false_true: [ 0, 1 ]"),
    ],
)
def test_sound(text):
    """What Triton accepts has no finding."""
    assert findings(HEAD + text) == []


def test_stages_follow_triton():
    """Rules about tensors and instances make a model UNAVAILABLE; the others keep it from being listed at all."""
    found = findings(HEAD + "max_batch_size: -1 input { name: 'x' dims: 0 } instance_group { kind: KIND_GPU }")
    assert [f.stage for f in found] == [Stage.POLL, Stage.LOAD, Stage.LOAD, Stage.LOAD]


def test_gpus_are_those_of_the_machine():
    """A GPU group gets every device; one that names a device that is not there is refused."""
    group = "instance_group { kind: KIND_GPU }"
    assert list(read(HEAD + group, gpus=(0, 1)).message.instance_group[0].gpus) == [0, 1]
    assert findings(HEAD + group, gpus=(0, 1)) == []
    (found,) = findings(HEAD + "instance_group { kind: KIND_GPU gpus: [ 7 ] }", gpus=(0, 1))
    assert "specifies invalid or unsupported gpu id 7" in found.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: 'm' platform: 'custom'", "unexpected platform type 'custom' for m"),
        ("name: 'm' platform: 'onnxruntime_onnx' backend: 'pytorch'",
         "unexpected 'platform' and 'backend' pair, got:onnxruntime_onnx, pytorch"),
        ("name: 'm' platform: 'ensemble'", "ensemble scheduling must be set for ensemble m whose platform is ensemble"),
    ],
)  # fmt: skip
def test_platform_and_backend(text, message):
    """A platform must be one of the backend's."""
    assert [f.message for f in findings(text)] == [message]


def ensemble(steps, inputs="A", outputs="Z", extra=""):
    """Write an ensemble: `A>x` feeds tensor A to a model's input x, `Z<y` takes Z from its output y."""
    tensors = "".join(f"input {{ name: '{n}' data_type: TYPE_FP32 dims: [ 4 ] }}\n" for n in inputs)
    tensors += "".join(f"output {{ name: '{n}' data_type: TYPE_FP32 dims: [ 4 ] }}\n" for n in outputs)
    text = f"name: 'm' platform: 'ensemble' {extra}\n{tensors}ensemble_scheduling {{\n"
    for model, maps in steps:
        text += f"step {{ model_name: '{model}' model_version: -1\n"
        for arrow in maps.split():
            kind, sign = ("input_map", ">") if ">" in arrow else ("output_map", "<")
            value, key = arrow.split(sign)
            text += f"{kind} {{ key: '{key}' value: '{value}' }}\n"
        text += "}\n"
    return text + "}\n"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (ensemble([("a", "A>x Z<y")]), []),
        (ensemble([("a", "A>x t<y"), ("b", "t>x Z<y")]), []),
        (ensemble([]), ["must specify 'step' for ensemble 'm'"]),
        (ensemble([("", "A>x Z<y")]), ["must specify 'model_name' in step 0 of ensemble 'm'"]),
        (ensemble([("a", "Z<y")]), ["must specify 'input_map' in step 0 of ensemble 'm'"]),
        (ensemble([("a", "A>x")]), ["must specify 'output_map' in step 0 of ensemble 'm'"]),
        (ensemble([("a", "A>x Z<y"), ("b", "A>x Z<y")]),
         ["ensemble tensor 'Z' can appear in an output map only once for ensemble 'm' step 1"]),
        (ensemble([("a", "A>x Z<y")], inputs="AB"), ["ensemble input 'B' for ensemble m' is not used"]),
        (ensemble([("a", "A>x Z<y")], outputs="ZY"), ["ensemble output 'Y' for ensemble m' is not used"]),
        (ensemble([("a", "A>x Z<y u<w")]), ["ensemble tensor 'u' is unused in ensemble 'm'"]),
        (ensemble([("a", "A>x t>w Z<y")]),
         ["output 'Z' for ensemble 'm' is not written: at least one of its depending tensors, 't', is not connected",
          "ensemble tensor 't' is unused in ensemble 'm'"]),
        (ensemble([("a", "A>x Z<y")], extra="instance_group { }"),
         ["instance group should not be specified for ensemble 'm'"]),
        (ensemble([("a", "A>x Z<y")], extra="optimization { }"),
         ["optimization should not be specified for ensemble 'm'"]),
        (ensemble([("a", "A>x Z<y")], extra="model_warmup { }"),
         ["model_warmup can not be specified for ensemble 'm'"]),
    ],
)  # fmt: skip
def test_ensemble_graph(text, messages):
    """The tensors of an ensemble flow from its inputs to its outputs, and none is left over."""
    assert [f.message for f in findings(text)] == messages


def member(text):
    return read(f"name: 'a' backend: 'identity'\n{text}").message


A = member("input { name: 'x' data_type: TYPE_FP32 dims: [ 4 ] } output { name: 'y' data_type: TYPE_FP32 dims: [ 4 ] }")
WIDE = member(
    "max_batch_size: 2 input { name: 'x' data_type: TYPE_FP32 dims: [ 9 ] } "
    "output { name: 'y' data_type: TYPE_INT8 dims: [ 4 ] } model_transaction_policy { decoupled: true }"
)


@pytest.mark.parametrize(
    ("maps", "model", "extra", "messages"),
    [
        ("A>x Z<y", A, "", []),
        ("A>q Z<y", A, "", ["in ensemble m, ensemble tensor A is mapping to non-existing input q in model a",
                            "in ensemble m, input x in model a is not mapped to any ensemble tensors"]),
        ("A>x Z<q", A, "", ["in ensemble m, ensemble tensor Z is mapped from non-existing output q in model a"]),
        ("A>x Z<y", WIDE, "max_batch_size: 8", [
            ("ensemble m allows maximum batch size 8, but it contains model a which only allows maximum batch size "
            "to be 2"),
            ("in ensemble m, ensemble tensor A: inconsistent shape: [-1,4] is inferred from model m while [-1,9] is "
            "inferred from model a"),
            ("in ensemble m, ensemble tensor Z: inconsistent data type: TYPE_FP32 is inferred from model m while "
            "TYPE_INT8 is inferred from model a")]),
    ],
)  # fmt: skip
def test_ensemble_members(maps, model, extra, messages):
    """An ensemble fits the models it is made of, and is decoupled when one of them is."""
    config = read(ensemble([("a", maps)], extra=extra)).message
    assert [f.message for f in check_members(config, {"a": model})] == messages
    assert config.model_transaction_policy.decoupled == model.model_transaction_policy.decoupled


def test_a_batch_dimension_may_be_written_out():
    """A tensor may pass from a model without batching to one with it when the full shapes agree."""
    flat = member(
        "input { name: 'x' data_type: TYPE_FP32 dims: [ -1, 4 ] }"
        "output { name: 'y' data_type: TYPE_FP32 dims: [ -1, 4 ] }"
    )
    config = read(ensemble([("a", "A>x Z<y")], extra="max_batch_size: 8")).message
    assert list(check_members(config, {"a": flat})) == []


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ("libtriton_identity.so", None),
        ("model.py", None),
        ("other", "unable to find backend library 'other' for model 'm'"),
        ("../libtriton_identity.so", "backend library name '../libtriton_identity.so' escapes backend directory"),
        ("/libtriton_identity.so", "backend library name '/libtriton_identity.so' escapes backend directory"),
    ],
)
def test_runtimes_that_are_not_there(runtime, said):
    """A backend has the library of its own name or model.py, and none outside of its folder."""
    config = parse_text(f"name: 'm' backend: 'identity' runtime: '{runtime}'", "f").message
    found = [finding.message for finding in check_load(config) if finding.where == ("runtime",)]
    assert found == ([said] if said else [])
