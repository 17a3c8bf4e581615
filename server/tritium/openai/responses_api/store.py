"""Responses kept in memory for the next turn and for who asks for them again; the longest unused go first."""

from collections import OrderedDict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import msgspec

from tritium.openai.errors import NothingKept
from tritium.openai.responses_api.items import InputItem, Item, ItemReference
from tritium.openai.responses_api.schema import ResponseObject


@dataclass(frozen=True, slots=True)
class Kept:
    """One response: what was said before it, what its request added, and itself."""

    response: ResponseObject
    before: Sequence[Item]
    input: Sequence[Item]
    owner: str
    """The key that asked for it; nobody else sees it."""

    @property
    def conversation(self) -> list[Item]:
        """Return all that the next turn follows."""
        return [*self.before, *self.input, *self.response.output]


class ResponseStore:
    """At most so many responses of so many bytes; `most` 0 keeps none."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        """Return how many bytes their conversations have as JSON: more than they take, for they share what they can."""
        return self._bytes

    def put(self, kept: Kept) -> None:
        """Keep a response, in place of one of the same id."""
        self._drop(kept.response.id)
        # What came before it is counted too: it stays for its sake when the earlier responses have gone.
        size = len(msgspec.json.encode((kept.response, kept.input, kept.before)))
        if not self._most or size > self._most_bytes:
            return
        self._kept[kept.response.id] = kept
        self._sizes[kept.response.id] = size
        self._bytes += size
        while len(self._kept) > self._most or self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def get(self, response_id: str, owner: str) -> Kept:
        """Return a response.

        Raises:
            NothingKept: there is none of that id, or not any more, or it is somebody else's.
        """
        kept = self._kept.get(response_id)
        if kept is None or kept.owner != owner:
            raise NothingKept(
                f"Response with id '{response_id}' not found.",
                hint="responses are kept in memory, the latest ones; openai_responses says how many",
            )
        self._kept.move_to_end(response_id)
        return kept

    def remove(self, response_id: str, owner: str) -> None:
        """Forget a response.

        Raises:
            NothingKept: there is none to forget.
        """
        self.get(response_id, owner)
        self._drop(response_id)

    def resolve(self, items: Sequence[InputItem], owner: str) -> list[Item]:
        """Return the items with references replaced by what they refer to.

        Raises:
            NothingKept: nothing of that id is kept.
        """
        wanted = {item.id for item in items if isinstance(item, ItemReference)}
        known = self._items(wanted, owner) if wanted else {}
        if missing := wanted - known.keys():
            raise NothingKept(f"Item with id '{min(missing)}' not found.", hint="send the item itself")
        return [known[item.id] if isinstance(item, ItemReference) else item for item in items]

    def _items(self, wanted: AbstractSet[str], owner: str) -> dict[str, Item]:
        """Return the items of these ids; where an id stands in several responses, the latest one's."""
        known: dict[str, Item] = {}
        for kept in self._kept.values():
            for item in (*kept.input, *kept.response.output) if kept.owner == owner else ():
                if item.id is not None and item.id in wanted:
                    known[item.id] = item
        return known

    def _drop(self, response_id: str) -> None:
        if self._kept.pop(response_id, None) is not None:
            self._bytes -= self._sizes.pop(response_id)
