"""Two outcomes of the same call, and how they differ: numbers by tolerance, text exactly, streams in order.

The generated text of a language model is compared by how much of it agrees from the start: two kernels, or two batch
sizes, may round a tie differently, after which greedy decoding goes its own way.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tritium.migration.comparing.call import Answer, Outcome
from tritium.migration.comparing.tensor import BadTensor, Tensor

# Relative and absolute, of the larger value: the rounding of a few hundred additions in another order.
_TOLERANCES = {"FP64": 1e-9, "FP32": 1e-4, "FP16": 1e-2, "BF16": 3e-2}
TEXT_OUTPUT = "text_output"
_PLACES = re.compile(r"(?:/[\w.@+-]+)+/|0x[0-9a-f]+|\bline \d+")
_IDENTITY = {"id", "model_version", "created", "sequence_id", "sequence_start", "sequence_end", "usage"}


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far apart two answers may be: `factor` times the usual for numbers, the share of generated text."""

    factor: float = 1.0
    text_agreement: float = 0.9
    messages: bool = True
    """Whether errors must say the same, or only have the same status."""
    text_only: bool = False
    """Whether of generated answers the text alone counts: two protocols say different things beside it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which two outcomes differ; `place` is the same in another outcome of the same call."""

    place: str
    message: str


def differences(old: Outcome, new: Outcome, tolerance: Tolerance) -> list[Difference]:
    """Return how the new server's outcome differs from the old one's; nothing where it is the same."""
    return list(_differences(old, new, tolerance))


def _differences(old: Outcome, new: Outcome, tolerance: Tolerance) -> Iterator[Difference]:
    if old.status != new.status:
        yield Difference("status", f"{_said(old)} became {_said(new)}")
        return
    if tolerance.messages and essence(old.message) != essence(new.message):
        yield Difference("message", f"the error {short(old.message)!r} became {short(new.message)!r}")
    if _is_language(old) or _is_language(new):
        yield from _generated(old, new, tolerance)
        return
    if len(old.answers) != len(new.answers):
        yield Difference("answers", f"{len(old.answers)} answers became {len(new.answers)}")
        return
    for number, (first, second) in enumerate(zip(old.answers, new.answers, strict=True), 1):
        where = f"answer {number}: " if len(old.answers) > 1 else ""
        yield from _answers(where, first, second, tolerance)


def _said(outcome: Outcome) -> str:
    return f"{outcome.status} {short(outcome.message)!r}" if outcome.failed else "an answer"


def essence(message: str) -> str:
    """Return the first line of an error without what differs between two machines: folders, addresses, lines."""
    return _PLACES.sub("", message.strip().partition("\n")[0]).strip()


def short(text: str) -> str:
    """Return a text cut to what fits a line of a report."""
    return text if len(text) <= 160 else f"{text[:157]}..."


def _answers(where: str, old: Answer, new: Answer, tolerance: Tolerance) -> Iterator[Difference]:
    theirs = {tensor.name: tensor for tensor in new.tensors}
    for tensor in old.tensors:
        place = f"{where}{tensor.name}"
        other = theirs.pop(tensor.name, None)
        if other is None:
            yield Difference(place, f"{place} is missing")
        elif (tensor.datatype, tensor.shape) != (other.datatype, other.shape):
            yield Difference(place, f"{place}: {_form(tensor)} became {_form(other)}")
        elif message := _values(tensor, other, tolerance):
            yield Difference(place, f"{place}: {message}")
    for name in theirs:
        yield Difference(f"{where}{name}", f"{where}{name} is there and was not")
    for key in sorted(set(old.document) | set(new.document)):
        one, two = old.document.get(key), new.document.get(key)
        if key not in _IDENTITY and one != two:
            yield Difference(f"{where}{key}", f"{where}{key}: {short(repr(one))} became {short(repr(two))}")


def _form(tensor: Tensor) -> str:
    return f"{tensor.datatype} [{', '.join(map(str, tensor.shape))}]"


def _values(old: Tensor, new: Tensor, tolerance: Tolerance) -> str:
    if old.data == new.data:
        return ""
    try:
        if old.datatype == "BYTES":
            return _texts(old.texts(), new.texts())
        first, second = old.numbers(), new.numbers()
    except BadTensor as error:
        return str(error)
    if first.shape != second.shape:
        return f"{first.size} elements became {second.size}"
    allowed = _TOLERANCES.get(old.datatype, 0.0) * tolerance.factor
    if allowed:
        one, two = first.astype(np.float64), second.astype(np.float64)
        apart = ~np.isclose(one, two, rtol=allowed, atol=allowed, equal_nan=True)
    else:
        apart = first != second
    if not apart.any():
        return ""
    at = int(np.argmax(apart))
    return f"{int(apart.sum())} of {apart.size} elements differ, the first at {at}: {first[at]} became {second[at]}"


def _texts(old: list[bytes], new: list[bytes]) -> str:
    if len(old) != len(new):
        return f"{len(old)} elements became {len(new)}"
    for at, (one, two) in enumerate(zip(old, new, strict=True)):
        if one != two:
            pair = (short(text.decode(errors="replace")) for text in (one, two))
            return "element {}: {!r} became {!r}".format(at, *pair)
    return ""


def _is_language(outcome: Outcome) -> bool:
    return any(
        TEXT_OUTPUT in answer.document or any(tensor.name == TEXT_OUTPUT for tensor in answer.tensors)
        for answer in outcome.answers
    )


def places(outcome: Outcome) -> set[str]:
    """Return the places at which the answers of an outcome are compared, but for what names the model."""
    if _is_language(outcome):
        return {TEXT_OUTPUT}
    return {
        f"answer {number}: {name}" if len(outcome.answers) > 1 else name
        for number, answer in enumerate(outcome.answers, 1)
        for name in {*(tensor.name for tensor in answer.tensors), *answer.document} - _IDENTITY - {"model_name"}
    }


def _generated(old: Outcome, new: Outcome, tolerance: Tolerance) -> Iterator[Difference]:
    """Compare what was generated as a whole: into how many answers it is cut is the engine's affair."""
    first, second = _text(old), _text(new)
    agreed = agreement(first, second)
    if agreed < tolerance.text_agreement:
        yield Difference(
            TEXT_OUTPUT,
            f"{agreed:.0%} of the text agrees ({tolerance.text_agreement:.0%} asked): "
            f"{short(first)!r} became {short(second)!r}",
        )
    for name in () if tolerance.text_only else sorted(_names(old) - _names(new)):
        yield Difference(name, f"{name} is missing")


def agreement(old: str, new: str) -> float:
    """Return the share of two texts that is the same from their start, of the longer one; two empty ones agree."""
    longest = max(len(old), len(new))
    same = next(
        (at for at, (one, two) in enumerate(zip(old, new, strict=False)) if one != two), min(len(old), len(new))
    )
    return same / longest if longest else 1.0


def _text(outcome: Outcome) -> str:
    parts: list[str] = []
    for answer in outcome.answers:
        value = answer.document.get(TEXT_OUTPUT, "")
        parts += [str(part) for part in (value if isinstance(value, list) else [value])]
        for tensor in answer.tensors:
            if tensor.name == TEXT_OUTPUT and tensor.datatype == "BYTES":
                parts += [text.decode(errors="replace") for text in tensor.texts()]
    return "".join(parts)


def _names(outcome: Outcome) -> set[str]:
    return {name for a in outcome.answers for name in (*a.document, *(t.name for t in a.tensors))} - _IDENTITY
