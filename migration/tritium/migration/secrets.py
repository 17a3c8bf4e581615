"""Secrets in what is read: they are covered before anything is shown, whatever the report."""

import re

_TOKENS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{8,}|AKIA[A-Z0-9]{12,}|ghp_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{16,}|nvapi-[\w-]{16,}"
    r"|xox[abp]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
)
_NAMES = r"(?:password|passwd|secret|token(?!s|iz)|api[-_]?key|access[-_]?key|sas|credential)[\w-]*"
_NAMED = re.compile(rf"""(?i)({_NAMES}["']?\s*[=:]\s*["']?)([^\s"',;&}}]{{4,}})""")
_APART = re.compile(
    rf"""(?ix)( \bname["']? \s*[:=]\s* ["']? [\w.-]*{_NAMES} ["']? [\s,+-]* ["']?value["']? \s*[:=]\s* ["']?
    | \bENV \s+ \w*{_NAMES} [ \t]+ ["']? (?!=) | --[\w-]*{_NAMES} [ \t]+ ["']? (?!-) ) ([^\s"',;&}}\\]{{4,}})"""
)
"""Secrets whose name stands apart: in an environment's list (a diff's marks between), an ENV, a flag."""
_NAME = re.compile(rf"(?i)(?:.*[-_.])?{_NAMES}")
_IN_URL = re.compile(r"(://[^/\s:@]+:)([^@/\s]+)(@)")
COVERED = "***"


def covered(text: str) -> str:
    """Return a text with its secrets covered; a variable that is filled in later is none."""
    text = _IN_URL.sub(rf"\1{COVERED}\3", _TOKENS.sub(COVERED, text))
    return _NAMED.sub(_cover, _APART.sub(_cover, text))


def _cover(match: re.Match[str]) -> str:
    return match[0] if match[2].startswith(("$", "{", "<")) else match[1] + COVERED


def names_secret(key: str) -> bool:
    """Tell whether what goes by this name is a secret."""
    return _NAME.fullmatch(key) is not None
