"""The values of a model's `parameters`, which are all written as text, as Triton's backends read them."""


def read_flag(text: str) -> bool:
    """Read what is on or off.

    Raises:
        ValueError: it is neither, in Triton's words.
    """
    if text.lower() in ("true", "on", "1"):
        return True
    if text.lower() in ("false", "off", "0"):
        return False
    raise ValueError(f"failed to convert '{text}' to boolean")


def read_count(text: str) -> int:
    """Read a whole number.

    Raises:
        ValueError: it is none, in Triton's words.
    """
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"failed to convert '{text}' to integral number") from None
