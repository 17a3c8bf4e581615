"""A rule's docstring taken apart: its summary, its text, and the examples that tests run and pages show."""

import inspect
import re
from dataclasses import dataclass

from tritium.migration.rules.rule import Rule

_HEAD = re.compile(r"^(Before|After) (\S.*):$")
_FINDS = re.compile(r"^Finds: (.+)$")


@dataclass(frozen=True, slots=True)
class Page:
    """What a rule says of itself. `before` and `after` are files by their paths; `finds` is said of `before`."""

    rule: type[Rule]
    summary: str
    text: str
    before: dict[str, str]
    after: dict[str, str]
    finds: tuple[str, ...]

    def markdown(self) -> str:
        """Return the page as it is published."""
        fixed = "rewritten by a plan" if self.after else "reported"
        lines = [f"# {self.rule.id}: {self.summary.removesuffix('.')}", "", self.text, ""]
        lines += [f"Usual severity: `{self.rule.severity.value}`. It is {fixed}.", ""]
        lines += [line for name, text in self.before.items() for line in _fenced("Before", name, text)]
        lines += [line for name, text in self.after.items() for line in _fenced("After", name, text)]
        lines += [f"The audit says: *{words}*" for words in self.finds]
        return "\n".join(lines).rstrip("\n") + "\n"


def _fenced(heading: str, name: str, text: str) -> list[str]:
    return [
        f"{heading}, `{name}`:",
        "",
        f"```{_LANGUAGES.get(name.rpartition('.')[2], '')}",
        text.rstrip("\n"),
        "```",
        "",
    ]


_LANGUAGES = {"yaml": "yaml", "yml": "yaml", "json": "json", "py": "python", "sh": "sh", "sbatch": "sh", "tf": "hcl"}


def page_of(rule: type[Rule]) -> Page:
    """Take a rule's docstring apart."""
    summary, _, rest = inspect.cleandoc(rule.__doc__ or "").partition("\n\n")
    text: list[str] = []
    files: dict[str, dict[str, list[str]]] = {"Before": {}, "After": {}}
    finds: list[str] = []
    block: list[str] | None = None
    for line in rest.splitlines():
        if match := _HEAD.match(line):
            block = files[match[1]].setdefault(match[2], [])
        elif match := _FINDS.match(line):
            block = None
            finds.append(match[1])
        elif block is not None and (line.startswith("    ") or not line):
            block.append(line[4:])
        else:
            block = None
            text.append(line)
    before, after = (
        {name: "\n".join(lines).strip("\n") + "\n" for name, lines in files[key].items()} for key in ("Before", "After")
    )
    return Page(rule, summary.replace("\n", " "), "\n".join(text).strip(), before, after, tuple(finds))
