"""The graph of an ensemble: which step makes which tensor, and which steps wait for it.

Read once out of `ensemble_scheduling`. For the outputs that a request wants, and the members that happen to be
decoupled, `course` tells what a run needs to know; it is worked out once and kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tritium.compat.config.model import ModelConfig
from tritium.core.request import RequestedOutput

CLIENT: Final = -1
"""Stands for the client among those who take tensors: its inputs are the outputs it wants."""


@dataclass(frozen=True, slots=True)
class Step:
    """One member: its inputs by name, each with the ensemble tensor it takes; its outputs likewise."""

    index: int
    model: str
    version: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    requested: list[RequestedOutput]


@dataclass(frozen=True, slots=True)
class Course:
    """What a run must do. `takers` are steps by index, or CLIENT; `single` and `many` count a taker's tensors.

    A tensor in `streams` may come more than once: a decoupled step makes it, or one that depends on such a step.
    """

    outputs: tuple[str, ...]
    takers: Mapping[str, tuple[int, ...]]
    single: Mapping[int, int]
    many: Mapping[int, int]
    streams: frozenset[str]


class Dataflow:
    """The steps of one ensemble and the tensors between them."""

    def __init__(self, config: ModelConfig) -> None:
        self.steps = [
            Step(
                index,
                step.model_name,
                "" if step.model_version <= 0 else str(step.model_version),
                dict(step.input_map),
                dict(step.output_map),
                [RequestedOutput(name) for name in step.output_map],
            )
            for index, step in enumerate(config.proto.ensemble_scheduling.step)
        ]
        self._maker = {tensor: step for step in self.steps for tensor in step.outputs.values()}
        # Triton lists an ensemble's outputs last one first.
        self._outputs = tuple(reversed(list(config.outputs)))
        self._courses: dict[tuple[frozenset[str], tuple[int, ...]], Course] = {}

    def course(self, wanted: frozenset[str], decoupled: tuple[int, ...]) -> Course:
        """Return what a run must do for these outputs (none: all), given the steps whose members are decoupled."""
        known = self._courses.get((wanted, decoupled))
        if known is None:
            known = self._courses[wanted, decoupled] = self._plan(wanted, decoupled)
        return known

    def _plan(self, wanted: frozenset[str], decoupled: tuple[int, ...]) -> Course:
        outputs = tuple(name for name in self._outputs if name in wanted or not wanted)
        streams = self._streams(decoupled)
        needs = {step.index: set(step.inputs.values()) for step in self._needed(outputs)}
        needs[CLIENT] = set(outputs)
        takers: dict[str, list[int]] = {}
        for index, tensors in needs.items():
            for tensor in tensors:
                takers.setdefault(tensor, []).append(index)
        return Course(
            outputs,
            {tensor: tuple(indices) for tensor, indices in takers.items()},
            {index: len(tensors - streams) for index, tensors in needs.items()},
            {index: len(tensors & streams) for index, tensors in needs.items()},
            streams,
        )

    def _needed(self, outputs: Iterable[str]) -> list[Step]:
        """Return the steps without which these outputs cannot be made; a step that makes nothing always runs."""
        needed = {step.index for step in self.steps if not step.outputs}
        todo = [*outputs, *(t for step in self.steps if not step.outputs for t in step.inputs.values())]
        while todo:
            step = self._maker.get(todo.pop())
            if step is not None and step.index not in needed:
                needed.add(step.index)
                todo.extend(step.inputs.values())
        return [self.steps[index] for index in sorted(needed)]

    def _streams(self, decoupled: Iterable[int]) -> frozenset[str]:
        many = set(decoupled)
        found: set[str] = set()
        grown = bool(many)
        while grown:
            grown = False
            for step in self.steps:
                if step.index in many or not found.isdisjoint(step.inputs.values()):
                    new = set(step.outputs.values()) - found
                    found |= new
                    grown = grown or bool(new)
        return frozenset(found)
