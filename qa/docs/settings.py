"""docs/settings.md, made from the settings themselves: `python -m qa.docs.settings > docs/settings.md`."""

import dataclasses
from collections.abc import Iterator
from typing import get_origin

from tritium.cli.options import SECRETS, ServeOptions, element_type
from tritium.cli.worker_options import WorkerOptions
from tritium.compat.flags import FLAGS, Fate, Flag

HEAD = """# Settings

Every setting of `tritium serve` can be given on the command line (`--http-port 8000`), in the environment
(`TRITIUM_HTTP_PORT=8000`; lists are separated by `;`, repositories by `:`) or in a TOML file named by `--config`
(`http_port = 8000`). The command line wins over the environment, the environment over the file.
`tritium serve --print-config` shows each value and where it came from. A variable that begins with
`TRITIUM_` and names no setting is warned of at start.
"""
WORKER_HEAD = """
## tritium worker

`tritium worker MODEL` has these, given in the same ways; [fleets over several machines](fleet.md#several-machines) use
it.
"""
FLAGS_HEAD = """
## tritonserver's flags

`tritonserver` takes the command line of Triton and serves the same thing; it listens on every address, as Triton does.
The port of the OpenAI API is added: where that of HTTP is (`--http-address`), or as `TRITIUM_OPENAI_HOST`,
`TRITIUM_OPENAI_PORT` and `TRITIUM_OPENAI_KEY` say; `TRITIUM_OPENAI=0` leaves it out. All other settings of the tables
above are taken from the environment, too.
"""


def _becomes(flag: Flag) -> str:
    if flag.fate is Fate.SET:
        return flag.note or f"sets `{flag.setting}`"
    if flag.fate is Fate.NOTED:
        return f"accepted; changes nothing: {flag.note}"
    return f"refused unless off; not available: {flag.note}"


def page() -> Iterator[str]:
    """Yield the page line by line."""
    yield HEAD
    yield from _tables(ServeOptions, "##")
    yield WORKER_HEAD
    yield from _tables(WorkerOptions, "###")
    yield FLAGS_HEAD
    yield "| flag | takes | what becomes of it |"
    yield "|---|---|---|"
    for flag in FLAGS:
        yield f"| `--{flag.name}` | {flag.kind} | {_becomes(flag)} |"


def _tables(settings: type, heading: str) -> Iterator[str]:
    options = dataclasses.fields(settings)
    for group in dict.fromkeys(f.metadata["group"] for f in options):
        yield f"\n{heading} {group.capitalize()}\n"
        yield "| setting | takes | default | what it does |"
        yield "|---|---|---|---|"
        yield from (_row(f) for f in options if f.metadata["group"] == group)


def _row(f: dataclasses.Field[object]) -> str:
    takes = " or ".join(f.metadata["choices"]) or element_type(f).__name__
    takes += ", any number" if get_origin(f.type) is tuple else ""
    default = "" if f.default in ("", ()) else str(f.default).lower()
    hidden = " (`--print-config` hides it)" if f.name in SECRETS else ""
    return f"| `{f.name}` | {takes} | {default} | {f.metadata['help']}{hidden} |"


if __name__ == "__main__":
    print("\n".join(page()))
