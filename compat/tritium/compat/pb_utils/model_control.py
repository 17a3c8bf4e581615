"""Loading and unloading models from inside a model."""

from tritium.compat.pb_utils.errors import TritonModelException
from tritium.compat.pb_utils.runtime import runtime


def load_model(model_name: str, config: str = "", files: dict[str, bytes] | None = None) -> None:
    """Load a model, with a configuration in JSON and files in place of the repository's where given."""
    if files is not None and not isinstance(files, dict):
        raise TritonModelException(
            f"failed to load model '{model_name}', files should be a dictionary of file paths and file contents"
        )
    runtime().control("load", model_name, config=config, files=dict(files or {}))


def unload_model(model_name: str, unload_dependents: bool = False) -> None:  # noqa: FBT001, FBT002  # Triton's
    """Unload a model, and with `unload_dependents` what only it used."""
    runtime().control("unload", model_name, dependents=unload_dependents)


def is_model_ready(model_name: str, model_version: str = "") -> bool:
    """Tell whether a model can be called."""
    return runtime().control("ready", model_name, model_version=model_version)


def get_model_dir() -> str:
    """Return the folder of this version's files."""
    return runtime().model_folder
