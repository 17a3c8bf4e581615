"""A rule that a configuration breaks: the field, the message in Triton's words, and our hint.

Rules know fields, not files; `Places.problem` puts a finding where the file has the field.
"""

from dataclasses import dataclass

from tritium.compat.config.problem import Stage

Path = tuple[str | int, ...]
"""Where a field is in the message: names, and the index within a repeated field or the key within a map."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule. `message` equals what Triton answers or logs for it."""

    where: Path
    message: str
    hint: str = ""
    stage: Stage = Stage.POLL
    status: str = "Invalid argument"
    """How Triton's reason for it begins."""
