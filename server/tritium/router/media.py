"""Prompts with pictures, sounds and films as an engine has them: a front has one token for each, the engine hundreds.

    5 7 P 9        with "cat", of which nothing is known: as it stands, and equal to no other from its block on
    first answer:  103 tokens, so that "cat" takes 100
    5 7 P 9 8      with "cat" again: 5 7 P*100 9 8, and "cat" begins at 2

What a placeholder becomes is as many of itself; where an engine makes something else of it, what comes after matches
nothing, which costs a detour.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

_MOST = 10_000
"""Of so many items the length is remembered; first those go that were not asked for longest."""


@dataclass(frozen=True, slots=True)
class MediaItem:
    """One picture or the like of a prompt: the digest of what it shows, and the token that stands for it."""

    key: str
    token: int


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A prompt at its full length, and what begins at which of its tokens."""

    token_ids: Sequence[int]
    media: dict[int, str] = field(default_factory=dict)


class MediaLengths:
    """How many tokens each item takes, learnt from the prompts that it was in."""

    def __init__(self) -> None:
        self._tokens: OrderedDict[str, int] = OrderedDict()

    def lay_out(self, token_ids: Sequence[int], items: Sequence[MediaItem]) -> LaidOut:
        """Return the prompt with every item at its length, in the order of their placeholders; 1 where it is not known.

        A prompt without a placeholder for each is returned as it is.
        """
        places = _places(token_ids, items)
        if places is None:
            return LaidOut(token_ids)
        whole: list[int] = []
        media: dict[int, str] = {}
        copied = 0
        for place, item in zip(places, items, strict=True):
            whole += token_ids[copied:place]
            copied = place + 1
            media[len(whole)] = item.key
            whole += [item.token] * self._tokens.get(item.key, 1)
        whole += token_ids[copied:]
        return LaidOut(whole, media)

    def learn(self, token_ids: Sequence[int], items: Sequence[MediaItem], prompt_tokens: int) -> None:
        """Learn from how many tokens a prompt became, where one item at most was not known."""
        if _places(token_ids, items) is None:
            return
        for item in items:
            if item.key in self._tokens:
                self._tokens.move_to_end(item.key)
        unknown = [item.key for item in items if item.key not in self._tokens]
        if len(set(unknown)) != 1:
            return
        known = sum(self._tokens.get(item.key, 0) for item in items)
        tokens, left = divmod(prompt_tokens - (len(token_ids) - len(items)) - known, len(unknown))
        if tokens < 1 or left:
            return
        self._tokens[unknown[0]] = tokens
        if len(self._tokens) > _MOST:
            self._tokens.popitem(last=False)


def _places(token_ids: Sequence[int], items: Sequence[MediaItem]) -> list[int] | None:
    """Return where the placeholders stand, in the order of the items; None where one has none."""
    places: list[int] = []
    after = 0
    for item in items:
        try:
            place = token_ids.index(item.token, after)
        except ValueError:
            return None
        places.append(place)
        after = place + 1
    return places
