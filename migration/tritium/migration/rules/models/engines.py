"""Rules of language models that are compiled engines, or hidden in python models."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tritium.migration.deployment import Deployment
from tritium.migration.finding import Finding, Severity
from tritium.migration.found import Found
from tritium.migration.kinds import ENGINE_PARAMETERS
from tritium.migration.models import names_checkpoint
from tritium.migration.rules.rule import Rule
from tritium.migration.text.edit import Edit, Fix
from tritium.migration.text.source import Source, Span
from tritium.migration.text.words import PLACEHOLDER

_OURS = {"tensorrtllm", "tensorrt_llm"}
_ENGINES = {*_OURS, "fastertransformer"}
# A model of the hub is called OWNER/NAME; nearly all names have a number in them, which paths of two parts seldom do.
_HUB = r"[A-Za-z][\w.-]+/[\w.-]*\d[\w.-]*"
_PLACES = (
    re.compile(rf"huggingface\.co/(?P<id>{_HUB})"),
    re.compile(rf"(?:huggingface-cli|hf) download (?:--\S+ )*(?P<id>{_HUB})"),
    re.compile(rf"(?:snapshot_download|from_pretrained)\(\s*(?:repo_id\s*=\s*)?[\"'](?P<id>{_HUB})[\"']"),
    re.compile(
        rf"--model[-_](?:dir|map|id|name)[= ](?:tensorrt_llm=)?[\"']?(?P<id>{_HUB})[\"']?(?=[\s\"']|$)", re.MULTILINE
    ),
    re.compile(rf"\b(?:HF_\w*MODEL\w*|MODEL_ID|HF_REPO\w*|MODEL_NAME)=[\"']?(?P<id>{_HUB})[\"']?\s*$", re.MULTILINE),
)
_PATHLIKE = re.compile(r"^(?:\.{0,2}/|\w+/(?:models?|engines?|checkpoints?|data|mnt|weights)(?:/|$))")
_SCRIPTS = (".sh", ".py", ".md", ".yaml", ".yml", ".ipynb", "Makefile", ".tf", ".json")


@dataclass(frozen=True, slots=True)
class Trace:
    """A checkpoint that something in the deployment names, and where."""

    checkpoint: str
    source: Source
    span: Span


class LanguageGroup(Rule):
    """Several models are one language model: tokenizing, the engine and detokenizing, and an ensemble around them.

    They are told by what they are, not by their names: an ensemble around a model of `tensorrtllm` (or of
    FasterTransformer), and the python models that call it. The engine's model takes the place of all: once its
    checkpoint is answered (rule M05), `plan --unsafe=M03` writes its `1/model.json` with what its parameters say, takes
    the other folders away, and keeps the names of those with texts as `aliases` with their tensors, so clients stay.
    The launcher of ranks becomes `tritonserver` with it. Parameters that are no argument are listed with the reason.

    It is unsafe because preprocessing may do more than tokenize: a chat template, say. A group stays as it is where an
    ensemble has other tensors, where a step is neither python nor the engine, or where its configuration is still to be
    filled in; a model that others call stays beside the new one.

    Before models/ensemble/config.pbtxt:

        platform: "ensemble"
        input [ { name: "text_input" data_type: TYPE_STRING dims: [ 1 ] } ]
        output [ { name: "text_output" data_type: TYPE_STRING dims: [ 1 ] } ]
        ensemble_scheduling { step [
          { model_name: "pre" model_version: -1
            input_map { key: "QUERY" value: "text_input" } output_map { key: "IDS" value: "ids" } },
          { model_name: "llm" model_version: -1
            input_map { key: "input_ids" value: "ids" } output_map { key: "output_ids" value: "text_output" } }
        ] }

    Before models/pre/config.pbtxt:

        backend: "python"
        input [ { name: "QUERY" data_type: TYPE_STRING dims: [ 1 ] } ]
        output [ { name: "IDS" data_type: TYPE_INT32 dims: [ -1 ] } ]

    Before models/llm/config.pbtxt:

        backend: "tensorrtllm"
        input [ { name: "input_ids" data_type: TYPE_INT32 dims: [ -1 ] } ]
        output [ { name: "output_ids" data_type: TYPE_STRING dims: [ 1 ] } ]

    Finds: ensemble, pre, llm are one language model around llm
    """

    id = "M03"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Return the groups, each at its ensemble."""
        for group in deployment.groups:
            for model in deployment.models:
                if model.name == group.name and model.place.parent.parent == group.path:
                    yield self.of(model, group.message, group.advice)


class Checkpoint(Rule):
    """A compiled engine is served from the checkpoint it was built from.

    An engine of TensorRT-LLM or FasterTransformer fits one version of its library and one GPU, and TensorRT-LLM has
    removed its engine-based Triton backend. The checkpoint it was built from is served instead. It is looked for in
    the engine's `config.json`, the tokenizer's folder, build scripts, and names given to launchers. What is found is
    shown with its place and asked about, never taken silently: an engine may be quantized, or built with adapters.
    Where one candidate is left, the fix that names it is there for who asks for unsafe ones.

    Before models/tensorrt_llm/config.pbtxt:

        backend: "tensorrtllm"
        parameters { key: "gpt_model_path" value { string_value: "/engines/llama" } }

    Before build.sh:

        huggingface-cli download meta-llama/Llama-3.1-8B-Instruct --local-dir /ckpt

    Finds: probably meta-llama/Llama-3.1-8B-Instruct (build.sh:1)

    After models/tensorrt_llm/config.pbtxt:

        backend: "tensorrtllm"
        parameters { key: "gpt_model_path" value { string_value: "/engines/llama" } }
        parameters { key: "checkpoint" value { string_value: "meta-llama/Llama-3.1-8B-Instruct" } }
    """

    id = "M05"
    severity = Severity.QUESTION

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Ask for the checkpoint of every engine."""
        for model, near in asked(deployment):
            yield self._ask(deployment, model, near)

    def _ask(self, deployment: Deployment, model: Found, near: list[Trace]) -> Finding:
        known = checkpoints(model, near)
        likely = len(known) == 1 and bool(_tokenizer(model) or _belongs(near[0], model))
        answer, fix = "nothing here names it", None
        if likely:
            place = f"{near[0].source.path}:{near[0].source.place(near[0].span.start)[0]}" if near else "its tokenizer"
            answer = f"probably {known[0]} ({place})"
            fix = named_by(deployment, model, known[0], safe=False)
        elif known:
            answer = f"named here: {', '.join(known[:4])}"
        advice = (
            'name it by a parameter "checkpoint" of this model: with backend "tensorrtllm" it serves the checkpoint'
            if model.backend in _OURS
            else 'a model with backend "vllm" and the checkpoint in 1/model.json serves it'
        )
        finding = self.of(model, f"which checkpoint was this engine built from? {answer}", advice, field=_engine(model))
        return replace(finding, fix=fix)


class HiddenLanguageModel(Rule):
    """A python model that runs a language model itself.

    It runs as it is. Served by vLLM instead, it gains continuous batching, a prefix cache, streaming and OpenAI's API.

    Before models/chat/config.pbtxt:

        backend: "python"

    Before models/chat/1/model.py:

        from transformers import AutoModelForCausalLM

        class TritonPythonModel:
            def initialize(self, args):
                self.model = AutoModelForCausalLM.from_pretrained("gpt2")

    Finds: runs a language model itself
    """

    id = "M06"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find code that loads a language model."""
        for model in deployment.models:
            if model.backend != "python":
                continue
            for source in deployment.files_of(model):
                if match := _LANGUAGE.search(source.text):
                    message = f"{model.name} runs a language model itself ({match.group().strip()})"
                    advice = 'as it is, or with backend "vllm" and the checkpoint in 1/model.json'
                    yield self.at(source, Span(*match.span()), message, advice, about=model.place)
                    break


_LANGUAGE = re.compile(
    r"AutoModelForCausalLM|AutoModelForSeq2SeqLM|AsyncLLMEngine|AsyncEngineArgs|\bfrom vllm\b|\bimport vllm\b"
    r"|LlamaForCausalLM|\bfrom llama_cpp\b|ctranslate2\.Generator|LLaMAForInference|text-generation[\"']"
)


class ArchivedEngine(Rule):
    """FasterTransformer is archived; its backend is a shared library that nothing but Triton loads.

    The checkpoint the weights were converted from is served by vLLM instead.

    Before models/gptj/config.pbtxt:

        backend: "fastertransformer"

    Finds: FasterTransformer is archived
    """

    id = "M07"
    severity = Severity.REBUILD

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every model of FasterTransformer."""
        for model in deployment.models:
            if model.backend == "fastertransformer":
                yield self.of(
                    model, "FasterTransformer is archived", "serve the checkpoint with vLLM", field=("backend",)
                )


class Disaggregated(Rule):
    """A BLS model that sends the context to one engine and the generation to another.

    Tritium has this as roles of workers: `prefill` and `decode` groups of one model, with the KV moved between them.
    The BLS model goes away.

    Before models/disaggregated_serving_bls/config.pbtxt:

        backend: "python"
        parameters { key: "context_model_name" value { string_value: "context" } }

    Finds: prefill and decode
    """

    id = "M32"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every such model, by name or parameters."""
        for model in deployment.models:
            keys = set(model.config.parameters)
            if "disaggregated_serving" in model.name or keys & {"context_model_name", "context_models"}:
                advice = "one model with workers of the roles prefill and decode (docs/fleet.md)"
                yield self.of(model, "splits a language model into prefill and decode workers itself", advice)


class Adapters(Rule):
    """A language model with LoRA adapters.

    vllm_backend's `multi_lora.json` is read as it is. TensorRT-LLM's clients send `lora_task_id` with weights the
    first time; here adapters are named in `multi_lora.json`, or loaded by `POST /v1/load_lora_adapter`.

    Before models/llama/config.pbtxt:

        backend: "vllm"

    Before models/llama/1/multi_lora.json:

        {"doll": "/adapters/doll"}

    Finds: adapters
    """

    id = "M33"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find adapters of vllm_backend, and inputs of TensorRT-LLM for them."""
        for model in deployment.models:
            if any(True for _ in deployment.files_of(model, "multi_lora.json")):
                yield self.of(model, "has adapters in multi_lora.json, which is read as it is")
            elif is_engine(model) and any(tensor.name == "lora_weights" for tensor in model.config.input):
                advice = "name adapters in multi_lora.json, or load them by POST /v1/load_lora_adapter"
                yield self.of(model, "takes LoRA weights as tensors, if the engine was built with them", advice)


class Draft(Rule):
    """Speculative decoding: Medusa, lookahead, EAGLE, or a draft model.

    A draft that is compiled into an engine is rebuilt with it. vLLM names its own in `speculative_config`.

    Before models/llm/config.pbtxt:

        backend: "tensorrtllm"
        parameters { key: "decoding_mode" value { string_value: "medusa" } }
        parameters { key: "gpt_model_path" value { string_value: "/engine" } }

    Finds: medusa
    """

    id = "M34"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find parameters of speculation that are set."""
        for model in deployment.models:
            for key in (
                "medusa_choices",
                "eagle_choices",
                "lookahead_window_size",
                "draft_llm_model_name",
                "decoding_mode",
            ):
                value = model.config.parameters[key].string_value if key in model.config.parameters else ""
                kind = next(
                    (k for k in ("medusa", "eagle", "lookahead", "draft") if k in key or k in value.lower()), ""
                )
                if kind and value and not PLACEHOLDER.fullmatch(value):
                    advice = 'vLLM names it in model.json: "speculative_config": {...}'
                    yield self.of(model, f"speculates with {kind} ({key})", advice)
                    break


class Multimodal(Rule):
    """A language model with an encoder of its own for images or sound, as an engine beside it.

    vLLM runs the encoder within the model. Whisper and the speech models around it keep their python models; only the
    engine's part is replaced.

    Before models/multimodal_encoders/config.pbtxt:

        backend: "python"
        parameters { key: "visual_model_path" value { string_value: "/engines/vision" } }

    Finds: an encoder
    """

    id = "M35"
    severity = Severity.TODO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find engines of encoders."""
        for model in deployment.models:
            keys = set(model.config.parameters)
            value = model.config.parameters["visual_model_path"].string_value if "visual_model_path" in keys else ""
            if (value and not PLACEHOLDER.fullmatch(value)) or model.name == "multimodal_encoders":
                advice = "vLLM runs the encoder within the model; images go into the request"
                yield self.of(model, "is an encoder in an engine of its own", advice)


def is_engine(model: Found) -> bool:
    """Tell whether a model is a compiled engine of a language model."""
    if model.backend in _OURS and names_checkpoint(model):
        return False
    return model.backend in _ENGINES or (
        model.backend == "python" and bool(ENGINE_PARAMETERS.search(model.parsed.places.source.text))
    )


def _serves_another(model: Found, deployment: Deployment) -> bool:
    """Tell whether a python model only stands before or behind an engine of its repository."""
    return model.backend == "python" and any(
        other.backend in _ENGINES and other.repository == model.repository for other in deployment.models
    )


def _tokenizer(model: Found) -> list[str]:
    """Return the checkpoint that a parameter of the model names as one of the hub."""
    found = []
    for key in ("tokenizer_dir", "model_name", "hf_model"):
        value = model.config.parameters[key].string_value if key in model.config.parameters else ""
        if re.fullmatch(_HUB, value) and not _PATHLIKE.match(value):
            found.append(value)
    return found


def asked(deployment: Deployment) -> Iterator[tuple[Found, list[Trace]]]:
    """Yield every engine whose checkpoint is not known, with what near it names one."""
    traces: list[Trace] | None = None
    for model in deployment.models:
        if is_engine(model) and not _serves_another(model, deployment):
            if traces is None:
                traces = list(_traces(deployment))
            yield model, _nearest(traces, model)


def checkpoints(model: Found, near: list[Trace]) -> list[str]:
    """Return the checkpoints that an engine may have been built from, as they are named in and near it."""
    return list(dict.fromkeys([*_tokenizer(model), *(trace.checkpoint for trace in near)]))


def named_by(deployment: Deployment, model: Found, checkpoint: str, *, safe: bool) -> Fix | None:
    """Write the parameter that names a checkpoint at the end of a configuration; None for a backend without one."""
    source = deployment.sources.get(model.place)
    if source is None or model.backend not in _OURS:
        return None
    end = len(source.text)
    newline = "\r\n" if "\r\n" in source.text else "\n"
    begun = "" if source.text.endswith("\n") or not source.text else newline
    value = checkpoint.replace("\\", "\\\\").replace('"', '\\"')
    text = f'parameters {{ key: "checkpoint" value {{ string_value: "{value}" }} }}'
    return Fix((Edit(source.path, Span(end, end), f"{begun}{text}{newline}"),), safe)


def _engine(model: Found) -> tuple[str | int, ...]:
    """Return the field that names the engine; none where the configuration has no such parameter."""
    match = ENGINE_PARAMETERS.search(model.parsed.places.source.text)
    key = match.group().strip("\"'") if match else ""
    return ("parameters", key) if key in model.config.parameters else ()


def _nearest(traces: list[Trace], model: Found) -> list[Trace]:
    """Return the traces that share most of their path with the model: a repository may hold several deployments."""
    parts = model.place.parts
    depths = {id(t): sum(1 for a, b in zip(t.source.path.parts, parts, strict=False) if a == b) for t in traces}
    deepest = max(depths.values(), default=0)
    return [trace for trace in traces if depths[id(trace)] == deepest]


def _belongs(trace: Trace, model: Found) -> bool:
    """Tell whether a trace stands in the model's repository, or in a folder above it."""
    home = trace.source.path.parent
    return home in model.place.parents or model.place.parent.parent in trace.source.path.parents


def _traces(deployment: Deployment) -> Iterator[Trace]:
    seen = set()
    for path, source in deployment.sources.items():
        if not path.name.endswith(_SCRIPTS) or len(source.text) > 200_000:
            continue
        for pattern in _PLACES:
            for match in pattern.finditer(source.text):
                name = match["id"].removesuffix(".git").rstrip(".")
                if not _PATHLIKE.match(name) and name not in seen:
                    seen.add(name)
                    yield Trace(name, source, Span(*match.span("id")))


RULES = (
    *(LanguageGroup, Checkpoint, HiddenLanguageModel, ArchivedEngine),
    *(Disaggregated, Adapters, Draft, Multimodal),
)
