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
    try:
        number = int(version)
    except ValueError:
        raise Refusal(
            f"failed to get model version from specified version string '{version}' (details: stol), {_WANTED}"
        ) from None
    if number < 0:
        raise Refusal(f"invalid model version specified '{version}' , {_WANTED}")
    return str(number)
