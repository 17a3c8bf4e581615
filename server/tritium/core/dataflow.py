"""The graph of an ensemble: which step makes which tensor, and which steps wait for it.

Read once out of `ensemble_scheduling`; a run asks it which steps a tensor may have made ready, and which steps
are needed at all for the outputs that a request wants.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tritium.compat.config.model import ModelConfig


@dataclass(frozen=True, slots=True)
class Step:
    """One member: its inputs by name, each with the ensemble tensor it takes; its outputs likewise."""

    index: int
    model: str
    version: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


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
            )
            for index, step in enumerate(config.proto.ensemble_scheduling.step)
        ]
        self.maker = {tensor: step for step in self.steps for tensor in step.outputs.values()}
        """The step that makes a tensor; inputs of the ensemble have none."""
        self._takers: dict[str, list[Step]] = {}
        for step in self.steps:
            for tensor in set(step.inputs.values()):
                self._takers.setdefault(tensor, []).append(step)
        self._all_outputs = frozenset(config.outputs)
        self._needed: dict[frozenset[str], frozenset[int]] = {}

    def takers(self, tensor: str) -> Iterable[Step]:
        """Return the steps that take a tensor."""
        return self._takers.get(tensor, ())

    def needed(self, outputs: frozenset[str]) -> frozenset[int]:
        """Return the steps without which these outputs cannot be made; a step that makes nothing always runs."""
        known = self._needed.get(outputs)
        if known is None:
            known = self._needed[outputs] = self._find_needed(outputs)
        return known

    def _find_needed(self, outputs: frozenset[str]) -> frozenset[int]:
        needed = {step.index for step in self.steps if not step.outputs}
        todo = [*outputs, *(t for step in self.steps if not step.outputs for t in step.inputs.values())]
        while todo:
            step = self.maker.get(todo.pop())
            if step is not None and step.index not in needed:
                needed.add(step.index)
                todo.extend(step.inputs.values())
        return frozenset(needed)

    def streams(self, decoupled: Iterable[int]) -> frozenset[str]:
        """Return the tensors that may come more than once, given the steps whose models are decoupled."""
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
