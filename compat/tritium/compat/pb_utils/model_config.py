"""The configuration that `auto_complete_config` fills in. Its messages are those a client of Triton knows."""

import json
from typing import Any


class ModelConfig:
    """A configuration as JSON, with the changes a model may make to it."""

    def __init__(self, model_config: str) -> None:
        self._model_config: dict[str, Any] = json.loads(model_config)

    @property
    def _where(self) -> str:
        return f"auto-complete-config function for model '{self._model_config['name']}'"

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration; read it, do not write to it."""
        return self._model_config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Set the largest batch.

        Raises:
            ValueError: the configuration names a larger one.
        """
        config = self._model_config
        if config["max_batch_size"] > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {config['max_batch_size']}, "
                f"but in {self._where} specified max_batch_size {max_batch_size}"
            )
        config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Choose dynamic batching, unless it is chosen already.

        Raises:
            ValueError: the configuration chose another scheduler.
        """
        for scheduler in ("sequence_batching", "ensemble_scheduling"):
            if scheduler in self._model_config:
                raise ValueError(
                    f"Configuration specified scheduling_choice as '{scheduler}', "
                    f"but {self._where} tries to set scheduling_choice as 'dynamic_batching'"
                )
        self._model_config.setdefault("dynamic_batching", {})

    def add_input(self, input: dict[str, Any]) -> None:  # noqa: A002  # Triton's name
        """Add an input, or complete the one of that name.

        Raises:
            ValueError: unknown or missing properties, or others than the configuration has.
        """
        self._add("input", input, ("name", "data_type", "dims", "optional"))

    def add_output(self, output: dict[str, Any]) -> None:
        """Add an output, or complete the one of that name.

        Raises:
            ValueError: unknown or missing properties, or others than the configuration has.
        """
        self._add("output", output, ("name", "data_type", "dims"))

    def set_model_transaction_policy(self, transaction_policy_dict: dict[str, Any]) -> None:
        """Set whether the model is decoupled.

        Raises:
            ValueError: another property, or the configuration says otherwise.
        """
        if any(key != "decoupled" for key in transaction_policy_dict):
            raise ValueError(
                "model transaction property in auto-complete-config function for model "
                f"'{self._model_config['name']}' contains property other than 'decoupled'."
            )
        policy = self._model_config.setdefault("model_transaction_policy", {})
        if "decoupled" in transaction_policy_dict:
            wanted = transaction_policy_dict["decoupled"]
            if policy.get("decoupled", wanted) != wanted:
                raise ValueError(
                    f"trying to change decoupled property in auto-complete-config for model "
                    f"'{self._model_config['name']}', which is already set to '{policy['decoupled']}'."
                )
            policy["decoupled"] = wanted

    def _add(self, role: str, given: dict[str, Any], allowed: tuple[str, ...]) -> None:
        self._check_properties(role, given, allowed)
        name = given["name"]
        present = next((io for io in self._model_config.setdefault(role, []) if io["name"] == name), None)
        if present is None:
            self._model_config[role].append(given)
            return
        model = self._model_config["name"]
        if present.get("data_type", "TYPE_INVALID") not in {"TYPE_INVALID", given["data_type"]}:
            raise ValueError(
                f"unable to load model '{model}', configuration expects datatype {present['data_type']} "
                f"for {role} '{name}', model provides {given['data_type']}"
            )
        for key in ("dims", "optional"):
            # Empty dims are dims left open; an `optional` that is False is a word of the configuration.
            if key in given and present.get(key, []) != [] and present[key] != given[key]:
                raise ValueError(
                    f"model '{model}', tensor '{name}': the model expects {key} {given[key]} "
                    f"but the model configuration specifies {key} {present[key]}"
                )
        present.update(given)

    def _check_properties(self, role: str, given: dict[str, Any], allowed: tuple[str, ...]) -> None:
        if "name" not in given:
            raise ValueError(f"{role} in {self._where} is missing 'name' property.")
        if any(key not in allowed for key in given):
            listed = "'" + "', '".join(allowed[:-1]) + f"' and '{allowed[-1]}'"
            raise ValueError(f"{role} '{given['name']}' in {self._where} contains property other than {listed}.")
        for key in ("data_type", "dims"):
            if key not in given:
                raise ValueError(f"{role} '{given['name']}' in {self._where} is missing '{key}' property.")
