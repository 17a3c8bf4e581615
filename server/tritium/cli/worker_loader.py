"""What prepares the model of a worker that fronts find: as in a server, but that it starts no fleet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from tritium.cli.worker_options import WorkerOptions
from tritium.core.errors import Internal
from tritium.llm.loader import LanguageLoader
from tritium.llm.reading.configured import REASONING_PARSER, TOOL_PARSER
from tritium.llm.settings import LanguageSettings
from tritium.llm.trtllm_files import read_trtllm_files


def loader_of(options: WorkerOptions, backend: str, name: str) -> LanguageLoader:
    """Return the loader for a model of this backend and name."""
    parsers = {TOOL_PARSER: options.tool_parser, REASONING_PARSER: options.reasoning_parser}
    settings = LanguageSettings(
        engine=options.engine,
        parsers={name: {field: parser for field, parser in parsers.items() if parser}},
        chat_templates={name: options.chat_template} if options.chat_template else {},
        cloud_cache=Path(options.cloud_cache) if options.cloud_cache else None,
    )
    if backend == "tensorrtllm":
        return LanguageLoader(settings, _start_nothing, read_trtllm_files)
    return LanguageLoader(settings, _start_nothing)


async def _start_nothing(
    fleet: str,  # noqa: ARG001  the protocol's name, as all here
    *,
    name: str,
    engine: str,  # noqa: ARG001
    folder: Path,  # noqa: ARG001
    arguments: Mapping[str, Any],  # noqa: ARG001
) -> NoReturn:
    raise Internal(f"the worker of {name} starts no fleet")
