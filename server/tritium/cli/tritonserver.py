"""`tritonserver`, by Triton's flags: the same server as `tritium serve`, for start scripts that stay as they are."""

import os
import sys
from collections.abc import Mapping, Sequence

from tritium.cli.options import PREFIX, ServeOptions, SettingsError, WrongValue, load
from tritium.compat.flag_help import GROUPS
from tritium.compat.flags import BY_NAME, Fate, FlagError, Parsed, parse


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse Triton's flags, then serve.

    Triton listens on every address and has no OpenAI port; the first is kept for drop-in use, the second is added.
    """
    try:
        options, parsed = read(sys.argv[1:] if arguments is None else arguments)
    except (FlagError, SettingsError) as error:
        sys.stderr.write(f"tritonserver: {error}\n")
        raise SystemExit(1) from None
    if parsed.help:
        sys.stdout.write(usage())
        return
    for note in parsed.notes:
        sys.stderr.write(f"tritonserver: {note}\n")
    import asyncio  # noqa: PLC0415  (--help must not import the server)

    from tritium.cli.ports import give_up_openai  # noqa: PLC0415  (nor this)
    from tritium.cli.run import run  # noqa: PLC0415  (nor this)

    served = asyncio.run(give_up_openai(options))
    if served.openai != options.openai:
        sys.stderr.write(
            f"tritonserver: port {options.openai_port} is taken: the OpenAI API is not served\n"
            "  hint: TRITIUM_OPENAI_PORT chooses another port for it, TRITIUM_OPENAI=0 switches it off\n"
        )
    raise SystemExit(run(served))


def read(arguments: Sequence[str]) -> tuple[ServeOptions, Parsed]:
    """Turn Triton's flags into our options.

    Raises:
        FlagError, SettingsError: a command line that cannot be honoured.
    """
    parsed = parse(arguments)
    for name, value in {**_vertex_ai(os.environ), **_addresses(parsed.settings, os.environ)}.items():
        parsed.settings.setdefault(name, value)
    for name in ("http", "grpc", "metrics"):
        if parsed.settings.get(name) is False:
            # As in Triton, where nobody looks at the port of what is not served.
            parsed.settings.pop(f"{name}_port", None)
    if not parsed.help and not parsed.settings.get("repositories"):
        raise FlagError("--model-repository must be specified")
    try:
        loaded = load({"host": "0.0.0.0", "server_id": "triton", "log_format": "default", **parsed.settings}, None)  # noqa: S104  as Triton
    except WrongValue as error:
        raise _by_its_flag(error, parsed) from None
    parsed.notes.extend(loaded.notes)
    return loaded.options, parsed


def _by_its_flag(error: WrongValue, parsed: Parsed) -> SettingsError:
    """Name a setting by the flag that gave it, where one did."""
    flags = [flag.name for flag in BY_NAME.values() if flag.setting == error.setting]
    if error.setting not in parsed.settings or not flags:
        return error
    return SettingsError(f"--{flags[0]} {error.complaint}")


def _vertex_ai(environment: Mapping[str, str]) -> dict[str, object]:
    """Return what the variables of a Vertex AI container set where no flag does."""
    settings: dict[str, object] = {}
    if environment.get("AIP_MODE") == "PREDICTION":
        settings = {"vertex_ai": True, "http": False, "grpc": False}
    if storage := environment.get("AIP_STORAGE_URI"):
        settings["repositories"] = [storage]
    if port := environment.get("AIP_HTTP_PORT"):
        settings["vertex_ai_port"] = port
    return settings


def _addresses(settings: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, object]:
    """Return where metrics are: with HTTP, as in Triton, unless told otherwise; so is what Triton has no flag for."""
    address = settings.get("http_host")
    followers = ("metrics_host", "openai_host") if address else ()
    return {name: address for name in followers if f"{PREFIX}{name.upper()}" not in environment}


def usage() -> str:
    """Write every flag by group, with what becomes of it here."""
    lines = ["Usage: tritonserver [options]"]
    for group, rows in GROUPS.items():
        lines += ["", f"{group}:"] if group else []
        for row in rows:
            flag = BY_NAME[row.name]
            default = f"  [{row.default}]" if row.default else ""
            lines.append(f"  --{row.name} {row.value}".rstrip())
            lines.append(f"\t{row.text}{default}")
            if flag.fate is Fate.NOTED:
                lines.append(f"\tAccepted, without effect: {flag.note}.")
            elif flag.fate is Fate.REFUSED:
                lines.append(f"\tNot available in this version: {flag.note}.")
    lines += ["", "What there is beyond Triton's flags is set in the environment: tritium serve --help names it all."]
    return "\n".join(lines) + "\n"
