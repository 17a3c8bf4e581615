"""AOTInductor archives (model.pt2) in their process: compiled code, called with its tensors in one flat order."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tritium.backends.hosted.batch import Batch, Value
from tritium.backends.hosted.configured import Configured, Refused
from tritium.backends.hosted.model import HostedModel
from tritium.backends.pytorch.signature import BadSpecification, input_places, output_places
from tritium.backends.pytorch.values import CONFIG_TYPES, from_torch, to_torch
from tritium.compat.pb_utils import TritonError


class TritonPythonModel(HostedModel):
    """One archive."""

    def load(self, model: Configured) -> None:
        """Load the compiled code and match the configuration with its call specification."""
        self._device = torch.device(f"cuda:{model.device}" if model.kind == "GPU" else "cpu")
        path = model.version_folder / (model.filename or "model.pt2")
        try:
            archive = torch._inductor.aoti_load_package(str(path))  # noqa: SLF001  # torch documents it by this name
            taken, given = archive.loader.get_call_spec()
            inputs, outputs = input_places(taken), output_places(given)
        except BadSpecification as error:
            raise Refused(f"Failed to parse PyTorch model's PT2 call specification: {error}") from None
        except Exception as error:  # noqa: BLE001  # whatever torch raises is why it cannot be loaded
            raise Refused(f"failed to load model '{model.name}': {error}") from None
        self._run = archive.loader.boxed_run if hasattr(archive.loader, "boxed_run") else archive.loader.run
        states = {port.name: port for port in (*model.states_in, *model.states_out)}
        unknown = [
            said
            for said, known in (
                *((control.name, control.config_type in CONFIG_TYPES) for control in model.controls),
                *((port.name, port.config_type in CONFIG_TYPES) for port in states.values()),
            )
            if not known
        ]
        if unknown:
            raise Refused(f"tensor '{unknown[0]}' of model '{model.name}' has a datatype that PyTorch does not have")
        names = [*model.inputs, *(control.name for control in model.controls), *(p.name for p in model.states_in)]
        self._inputs = _chosen(model, names, inputs, "Input")
        expected = len(set(inputs.values()))
        if len(self._inputs) != expected:
            raise Refused(
                f'Failed to load model "{model.name}" configuration expects {len(self._inputs)} inputs, but model '
                f"expects {expected} inputs."
            )
        self._ports = {port.name: port for port in (*model.states_out, *model.outputs.values())}
        self._outputs = _chosen(model, list(self._ports), outputs, "Output")

    def run(self, batch: Batch) -> Mapping[str, Value]:
        """Call the compiled code."""
        given: dict[str, Any] = {name: to_torch(name, value, self._device) for name, value in batch.inputs.items()}
        missing = [name for name in self._inputs if name not in given]
        if missing:
            raise Refused(f"the request has no input '{missing[0]}'", TritonError.INVALID_ARG)
        try:
            results = self._run([given[name] for name in sorted(self._inputs, key=self._inputs.__getitem__)])
        except Exception as error:  # noqa: BLE001  # whatever the model raises is the answer
            raise Refused(f"PyTorch execute failure: {error}") from None
        return {name: from_torch(port, results[self._outputs[name]]) for name, port in self._ports.items()}


def _chosen(model: Configured, names: Sequence[str], places: Mapping[str, int], what: str) -> dict[str, int]:
    """Return the place of every configured tensor."""
    for name in names:
        if name not in places:
            raise Refused(
                f'{what} "{name}" for model instance "{model.name}" is not found in model {what.lower()} map '
                f"({', '.join(places)}).",
                TritonError.INVALID_ARG,
            )
    return {name: places[name] for name in names}
