"""Which block lies in which slot of a tier, and which one goes when the tier is full.

    (absent) --take--> RESERVED --settle--> HELD --touch/pin/unpin--> HELD
                          |                   |
                          +--abandon-->       +--taken for another, or removed--> (absent)

Eviction is LRU; a tenant who has its share makes room among its own. Pinned and reserved blocks stay. Pure: the
caller holds a lock and moves the bytes.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tritium.kv.block import tenant_of

# Of a tier that ran out of room, a slot more is tried after so many evictions.
_TRIED_AGAIN_EVERY = 32


@dataclass(slots=True)
class Entry:
    """One block's place."""

    key: bytes
    slot: int
    size_bytes: int
    checksum: int = 0
    pins: int = 0
    held: bool = False
    retired: bool = False
    """There is no room behind its slot: it is not to be used again."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A slot for a new block, and the block that had to leave it."""

    entry: Entry
    victim: Entry | None


@dataclass(frozen=True, slots=True)
class Shares:
    """The largest part of a tier that a tenant may fill: by its digest, and for those not named."""

    default: float = 1.0
    by_tenant: Mapping[bytes, float] = field(default_factory=dict)

    def slots(self, tenant: bytes, slots: int) -> int:
        """Return how many of a tier's slots a tenant may have; at least one."""
        return max(1, int(self.by_tenant.get(tenant, self.default) * slots))


class Shelf:
    """The slots of one tier."""

    def __init__(self, slots: int, shares: Shares) -> None:
        self.slots = slots
        self.size_bytes = 0
        self._shares = shares
        self._entries: dict[bytes, Entry] = {}
        self._order: OrderedDict[bytes, None] = OrderedDict()
        self._of_tenant: dict[bytes, OrderedDict[bytes, None]] = {}
        self._freed: list[int] = []
        self._fresh = 0
        self._given = slots
        self._retired: list[int] = []
        self._evictions = 0

    def __len__(self) -> int:
        """Return how many blocks lie here, reserved ones included."""
        return len(self._entries)

    def __contains__(self, key: bytes) -> bool:
        """Return whether the block lies here or is on its way here."""
        return key in self._entries

    def held(self, key: bytes) -> Entry | None:
        """Return where the block lies, once all of it does."""
        entry = self._entries.get(key)
        return entry if entry is not None and entry.held else None

    def entries(self) -> Iterator[Entry]:
        """Yield what is held, the least recently used first."""
        return (entry for key in self._order if (entry := self._entries[key]).held)

    def tenants(self) -> dict[bytes, int]:
        """Return how many slots each tenant has."""
        return {tenant: len(keys) for tenant, keys in self._of_tenant.items()}

    def take(self, key: bytes, size_bytes: int) -> Taken | None:
        """Reserve a slot, evicting if it must; None where the block is here already or nothing may leave."""
        if key in self._entries:
            return None
        tenant = tenant_of(key)
        own = self._of_tenant.get(tenant)
        victim = None
        full = self._full()
        if own is not None and len(own) >= self._shares.slots(tenant, self.slots):
            victim = self._oldest(own)
            if victim is None:
                return None
        elif full:
            victim = self._oldest(self._order)
            if victim is None:
                return None
        if victim is not None:
            slot = victim.slot
            self._forget(victim)
        elif self._freed:
            slot = self._freed.pop()
        else:
            slot = self._fresh
            self._fresh += 1
        entry = Entry(key, slot, size_bytes)
        self._enter(entry)
        return Taken(entry, victim)

    def restore(self, key: bytes, slot: int, size_bytes: int, checksum: int) -> bool:
        """Note a block found in a slot at start, slots in rising order; return whether it is now held here."""
        self._freed.extend(range(self._fresh, slot))
        self._fresh = max(self._fresh, slot + 1)
        if key in self._entries:
            self._freed.append(slot)
            return False
        self._enter(Entry(key, slot, size_bytes, checksum, held=True))
        return True

    def note(self, key: bytes, size_bytes: int) -> bool:
        """Hold a block that was found to be there, if nothing has to leave for it; return whether it is new here.

        It is the first to go: who used it last is not known.
        """
        own = self._of_tenant.get(tenant_of(key), ())
        if key in self._entries or self._full() or len(own) >= self._shares.slots(tenant_of(key), self.slots):
            return False
        taken = self.take(key, size_bytes)
        assert taken is not None
        taken.entry.held = True
        self._order.move_to_end(key, last=False)
        self._of_tenant[tenant_of(key)].move_to_end(key, last=False)
        return True

    def settle(self, entry: Entry, checksum: int) -> None:
        """Let a reserved block be found."""
        entry.checksum = checksum
        entry.held = True

    def remove(self, entry: Entry) -> None:
        """Forget a block that is neither pinned nor wanted any more, or was reserved in vain."""
        if self._entries.get(entry.key) is entry:
            self._forget(entry)
            if not entry.retired:
                self._freed.append(entry.slot)
                return
            self._retired.append(entry.slot)
            # What there is room for is what lies here, and at least one.
            self.slots = max(1, min(self.slots - 1, len(self._entries) + len(self._freed)))

    def touch(self, key: bytes) -> None:
        """Note that the block was used."""
        self._order.move_to_end(key)
        self._of_tenant[tenant_of(key)].move_to_end(key)

    def _full(self) -> bool:
        if self._freed or (self._fresh < self.slots and len(self._entries) < self.slots):
            return False
        if self.slots < self._given:
            self._evictions += 1
            if self._evictions % _TRIED_AGAIN_EVERY == 0:  # others may have made room meanwhile
                self.slots += 1
                if self._retired:
                    self._freed.append(self._retired.pop())
                return not self._freed and self._fresh >= self.slots
        return True

    def _enter(self, entry: Entry) -> None:
        self._entries[entry.key] = entry
        self._order[entry.key] = None
        self._of_tenant.setdefault(tenant_of(entry.key), OrderedDict())[entry.key] = None
        self.size_bytes += entry.size_bytes

    def _forget(self, entry: Entry) -> None:
        tenant = tenant_of(entry.key)
        del self._entries[entry.key], self._order[entry.key], self._of_tenant[tenant][entry.key]
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]
        self.size_bytes -= entry.size_bytes

    def _oldest(self, order: OrderedDict[bytes, None]) -> Entry | None:
        for key in order:
            entry = self._entries[key]
            if entry.held and not entry.pins:
                return entry
        return None
