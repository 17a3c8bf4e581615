"""The regular expressions of --http-header-forward-pattern and --grpc-header-forward-pattern.

Triton compiles them with RE2 behind the prefix (?i), so that case does not matter unless the pattern says (?-i).
Source: server/src/command_line_parser.cc, 2.73.
"""

import re

_CASE_MATTERS = "(?-i)"


def compile_pattern(text: str) -> re.Pattern[str] | None:
    """Compile a pattern; None where there is none.

    Raises:
        re.error: it is no regular expression.
    """
    if not text:
        return None
    if text.startswith(_CASE_MATTERS):  # which Python's syntax has for groups only
        return re.compile(text.removeprefix(_CASE_MATTERS))
    return re.compile(text, re.IGNORECASE)
