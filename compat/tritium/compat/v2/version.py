"""The version of a model as a gRPC client writes it; in a URL, only digits make a version at all."""

from tritium.compat.v2.refusal import Refusal

_WANTED = "version should be an integral value > 0"


def check(version: str) -> str:
    """Return the version as it is looked up: "" for the newest, or a number without leading zeros.

    Raises:
        Refusal: it is not a number, or below zero.
    """
    if not version:
        return ""
    digits = version.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise Refusal(
            f"failed to get model version from specified version string '{version}' (details: stol), {_WANTED}"
        )
    if version != digits:
        raise Refusal(f"invalid model version specified '{version}' , {_WANTED}")
    return plain(digits)


def plain(digits: str) -> str:
    """Drop leading zeros."""
    return digits.lstrip("0") or "0"
