"""Rules of vLLM's model.json: the model as it is, and arguments that vLLM has no more."""

import re
from collections.abc import Iterator

from tritium.compat.vllm_arguments import REMOVED, REPLACED
from tritium.migration.deployment import Deployment
from tritium.migration.finding import Finding, Severity
from tritium.migration.found import Found
from tritium.migration.rules.rule import Rule, replacement
from tritium.migration.text.edit import Edit, Fix
from tritium.migration.text.source import Source, Span
from tritium.migration.text.tree import Mapping, Scalar, documents

_WORDS = {"true": "true", "false": "false"}


class VllmModel(Rule):
    """A model of vllm_backend is served as it is, by a worker of its own, and gains the OpenAI API.

    `model.json` goes to vLLM; the KServe name, `generate` and the tensors stay. Clients of OpenAI's API reach the
    model under the same name on port 9000.

    Before models/llama/config.pbtxt:

        backend: "vllm"
        instance_group [ { count: 1 kind: KIND_MODEL } ]

    Before models/llama/1/model.json:

        {"model": "meta-llama/Llama-3.1-8B-Instruct", "tensor_parallel_size": 2}

    Finds: meta-llama/Llama-3.1-8B-Instruct on 2 GPUs
    """

    id = "M01"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every model of vllm_backend whose model.json names a checkpoint."""
        for model, source, tree in _arguments(deployment):
            checkpoint = tree.get("model")
            if isinstance(checkpoint, Scalar):
                gpus = (
                    int(tree.text(f"{way}_parallel_size") or 1)
                    for way in ("tensor", "pipeline")
                    if _is_count(tree, way)
                )
                count = 1
                for number in gpus:
                    count *= number
                message = (
                    f"serves {checkpoint.text} on {count} GPU{'s' * (count != 1)}; OpenAI's API has it as {model.name}"
                )
                yield self.at(source, checkpoint.span, message, about=model.place)


class FormerArgument(Rule):
    """An argument that vLLM has no more, or a truth value written as a string.

    Older `model.json` files carry arguments that are gone. One that changes no result is left out; one that would is
    refused by the server, so a person writes what says it now. `"true"` in quotation marks becomes `true`.

    Before models/llama/config.pbtxt:

        backend: "vllm"

    Before models/llama/1/model.json:

        {
            "model": "meta-llama/Llama-3.1-8B-Instruct",
            "disable_log_requests": true,
            "enforce_eager": "true"
        }

    After models/llama/1/model.json:

        {
            "model": "meta-llama/Llama-3.1-8B-Instruct",
            "enforce_eager": true
        }
    """

    id = "M02"
    severity = Severity.CHANGE

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every argument that vLLM would stumble over."""
        for model, source, tree in _arguments(deployment):
            for key, value in tree.entries:
                if key.text in REMOVED:
                    fix = Fix((_without(source, tree, key),))
                    message = f"vLLM has no '{key.text}' any more: {REMOVED[key.text]}"
                    yield self.at(source, key.span, message, "leave it out", fix=fix, about=model.place)
                elif key.text in REPLACED:
                    message, advice = f"vLLM has no '{key.text}' any more", f"write {REPLACED[key.text]}"
                    yield self.at(source, key.span, message, advice, severity=Severity.TODO, about=model.place)
                elif isinstance(value, Scalar) and value.text.lower() in _WORDS and _is_quoted(source, value.span):
                    span = Span(value.span.start - 1, value.span.end + 1)
                    fix = replacement(source, span, _WORDS[value.text.lower()])
                    message = f"'{key.text}' is a string where a truth value is due"
                    yield self.at(source, span, message, "leave out the quotation marks", fix=fix, about=model.place)


def _arguments(deployment: Deployment) -> Iterator[tuple[Found, Source, Mapping]]:
    for model in deployment.models:
        if model.backend == "vllm":
            for source in deployment.files_of(model, "model.json"):
                for tree in documents(source):
                    if isinstance(tree, Mapping):
                        yield model, source, tree


def _is_count(tree: Mapping, way: str) -> bool:
    return tree.text(f"{way}_parallel_size").isdigit()


def _is_quoted(source: Source, span: Span) -> bool:
    return source.text[span.start - 1 : span.start] == '"'


def _without(source: Source, tree: Mapping, key: Scalar) -> Edit:
    """Return the edit that takes a key and its value out of a JSON object, with the comma and the line it leaves."""
    index = next(number for number, (name, _) in enumerate(tree.entries) if name is key)
    value = tree.entries[index][1]
    end = value.span.end + (1 if isinstance(value, Scalar) and _is_quoted(source, value.span) else 0)
    start = key.span.start - 1
    if match := re.match(r"\s*,[ \t]*(\r?\n)?[ \t]*", source.text[end:]):
        # What follows takes the place, with the indentation that is there already.
        return Edit(source.path, Span(start, end + match.end()), "")
    before = re.search(r",?\s*$", source.text[:start])
    return Edit(source.path, Span(before.start() if before else start, end), "")
