"""A problem in a model's configuration or folder, as data, and how a list of them is shown to a person.

repo/resnet/config.pbtxt:3:1  unknown field "max_batch_sise"
    3 | max_batch_sise: 64
      | ^^^^^^^^^^^^^^ did you mean max_batch_size?
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

_WIDTH = 160
"""Source lines longer than this are shown around the place that is meant."""


class Stage(StrEnum):
    """When Triton would have noticed, which decides what its repository index says.

    POLL: the configuration cannot be used; the model is listed by its name alone. GRAPH: the same for an ensemble
    that does not fit its members. LOAD: the model is UNAVAILABLE, and the message is the reason. WARNING: it loads.
    """

    POLL = "poll"
    GRAPH = "graph"
    LOAD = "load"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, what, and what to do about it.

    `line` and `column` count from 1, in characters; `line` 0 means the file or folder as a whole.
    """

    path: str
    line: int
    column: int
    length: int
    message: str
    hint: str = ""
    source_line: str = ""
    stage: Stage = Stage.POLL
    status: str = "Invalid argument"
    """How Triton's reason for it begins."""
    reason: str = ""
    """What a load fails with, where that differs from `message`, which is shown beside the path."""

    @property
    def fatal(self) -> bool:
        """Tell whether the model cannot be served."""
        return self.stage is not Stage.WARNING

    def render(self) -> str:
        """Show the problem as text, with the offending line and a caret under the place."""
        label = "" if self.fatal else "warning: "
        if not self.line:
            return f"{self.path}  {label}{self.message}" + (f"      hint: {self.hint}" if self.hint else "")
        shown, start = _window(self.source_line, self.column - 1)
        caret_at = self.column - 1 - start
        # Tabs stay tabs, so that the caret stands under its place however wide a terminal shows them.
        indent = "".join("\t" if c == "\t" else " " for c in shown[:caret_at])
        caret = "^" * max(1, min(self.length, len(shown) - caret_at))
        return "\n".join(
            (
                f"{self.path}:{self.line}:{self.column}  {label}{self.message}".rstrip(),
                f"{self.line:>5} | {shown}",
                f"      | {indent}{caret} {self.hint}".rstrip(),
            )
        )


def problem_of(path: str, message: str, hint: str = "", stage: Stage = Stage.POLL) -> Problem:
    """Make a problem of a whole file or folder."""
    return Problem(path, 0, 0, 0, message, hint, "", stage)


def render(problems: Iterable[Problem]) -> str:
    """Show problems one below the other, in the order of their places."""
    ordered = sorted(problems, key=lambda p: (p.path, p.line, p.column))
    return "\n".join(p.render() for p in ordered)


def _window(line: str, at: int) -> tuple[str, int]:
    if len(line) <= _WIDTH:
        return line, 0
    start = max(0, min(at - _WIDTH // 2, len(line) - _WIDTH))
    return line[start : start + _WIDTH], start
