"""Text to word numbers, for the tokenizer and for the training of text_model alike."""

import re
import zlib

BUCKETS = 1024
LENGTH = 32

_WORD = re.compile(r"[a-z']+")


def word_numbers(text: str) -> list[int]:
    """Hash the first words of a text into buckets 1 ... BUCKETS - 1; the rest of the row is 0, which means nothing."""
    words = _WORD.findall(text.lower())[:LENGTH]
    numbers = [1 + zlib.crc32(word.encode()) % (BUCKETS - 1) for word in words]
    return numbers + [0] * (LENGTH - len(numbers))
