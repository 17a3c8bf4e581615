"""Tables as tritonserver prints them.

>>> print(table(("Model", "Version", "Status"), [("add_sub", "1", "READY")]))
+---------+---------+--------+
| Model   | Version | Status |
+---------+---------+--------+
| add_sub | 1       | READY  |
+---------+---------+--------+
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points, version

import orjson

from tritium.cli.options import ServeOptions
from tritium.cli.screen import Row
from tritium.core.serving import EXTENSIONS
from tritium.repository.known_backends import GROUP

_WIDEST = 500
"""Characters of all cells of a row; longer ones are broken."""


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows under a heading; a cell may have several lines."""
    cells = [[cell.splitlines() or [""] for cell in row] for row in (heading, *rows)]
    widths = [max(len(line) for row in cells for line in row[column]) for column in range(len(heading))]
    widest = widths.index(max(widths))
    widths[widest] = max(20, min(widths[widest], _WIDEST - sum(widths) + widths[widest]))
    border = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    lines = [line for row in cells for line in _row(row, widths)]
    height = len(list(_row(cells[0], widths)))
    return "\n".join([border, *lines[:height], border, *lines[height:], border])


def models(rows: Sequence[Row]) -> str:
    """Return the table of models."""
    states = [
        (row.model, row.version or "-", f"{row.state}: {row.reason}" if row.reason else row.state) for row in rows
    ]
    return table(("Model", "Version", "Status"), states)


def backends(rows: Sequence[Row], options: ServeOptions) -> str:
    """Return the table of the backends that models use: what implements each, and its settings."""
    used = {row.backend.split(" ")[0] for row in rows}
    places = {point.name: point.value for group in (GROUP, "tritium.engines") for point in entry_points(group=group)}
    settings = [(name, places[name], _backend_config(name, options)) for name in sorted(used & places.keys())]
    return table(("Backend", "Path", "Config"), settings)


def agents(rows: Sequence[Row]) -> str:  # noqa: ARG001 - agents are built in and named by configurations alone
    """Return the table of repository agents, which has no rows: none is a library with a path."""
    return table(("Repository Agent", "Path"), [])


def settings(options: ServeOptions) -> str:
    """Return the table of the server's options."""
    return table(("Option", "Value"), list(_settings(options).items()))


def _settings(options: ServeOptions) -> Mapping[str, str]:
    return {
        "server_id": options.server_id,
        "server_version": version("tritium"),
        "server_extensions": " ".join(EXTENSIONS),
        **{f"model_repository_path[{n}]": path for n, path in enumerate(options.repositories)},
        "model_control_mode": f"MODE_{options.control_mode.upper()}",
        **{f"startup_models_{n}": name for n, name in enumerate(options.load_model)},
        "strict_model_config": str(int(not options.auto_complete)),
        "model_config_name": options.config_name,
        "rate_limit": "EXEC_COUNT" if options.rate_limit == "execution_count" else "OFF",
        **{f"rate_limit_resource[{n}]": text for n, text in enumerate(options.rate_limit_resource)},
        "pinned_memory_pool_byte_size": str(options.pinned_memory_bytes),
        "min_supported_compute_capability": "6.0",
        "strict_readiness": str(int(options.strict_readiness)),
        "exit_timeout": f"{options.exit_timeout_s:.0f}",
        "cache_enabled": str(int(bool(options.cache_config))),
    }


def _backend_config(name: str, options: ServeOptions) -> str:
    given = {"auto-complete-config": str(options.auto_complete).lower(), "default-max-batch-size": "4"}
    for pair in options.backend_config:
        backend, _, setting = pair.partition(",")
        key, _, value = setting.partition("=")
        if backend in (name, ""):
            given[key] = value
    return orjson.dumps({"cmdline": given}, option=orjson.OPT_SORT_KEYS).decode()


def _row(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    columns = [list(_broken(cell, width)) for cell, width in zip(cells, widths, strict=True)]
    for n in range(max(len(column) for column in columns)):
        parts = [(column[n] if n < len(column) else "").ljust(w) for column, w in zip(columns, widths, strict=True)]
        yield "| " + " | ".join(parts) + " |"


def _broken(lines: Sequence[str], width: int) -> Iterator[str]:
    for line in lines:
        yield from (line[at : at + width] for at in range(0, len(line) or 1, width or 1))
