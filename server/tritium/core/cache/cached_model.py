"""A model behind the response cache: looked up before a request reaches it, filled as its response leaves.

    submit -> key -> store.lookup -> hit: answered with the kept response
                                  -> miss: model.submit -> the response is kept -> client

Counted as Triton counts: a hit is a success without an execution; a miss adds the time for looking up and storing
to the request's. Errors, and requests that were answered more or less than once, are not kept.
Source: Triton core, dynamic_batch_scheduler.cc (CacheLookUp, DelegateResponse) and infer_stats.cc.
"""

from itertools import count

from tritium.core.cache.entry import Entry, entry_of
from tritium.core.cache.key import KeyMaker
from tritium.core.cache.store import Insertion, Store
from tritium.core.clock import SYSTEM_CLOCK, Clock
from tritium.core.errors import InferenceError
from tritium.core.ledger import Ledger
from tritium.core.model import Model
from tritium.core.request import InferRequest, InferResponse, Reply
from tritium.core.scheduler.order import Turnstile

_editions = count(1)


class CachedModel(Model):
    """One model version, with its way to the store.

    Entries in a store that only this process sees belong to this load of the model: one that was changed and loaded
    again does not give the answers of the old one. Where the model preserves the order of its responses, those from
    the store wait for those that were asked for before.
    """

    def __init__(self, model: Model, store: Store, clock: Clock = SYSTEM_CLOCK) -> None:
        self.name = model.name
        self.version = model.version
        self.config = model.config
        self.statistics = model.statistics
        self._ledger = Ledger(model.statistics, clock, decoupled=model.config.decoupled)
        self._model = model
        self._store = store
        self._clock = clock
        self._keys = KeyMaker(model.name, model.version, "" if store.shared else str(next(_editions)))
        self._turnstile = Turnstile() if model.config.proto.dynamic_batching.preserve_ordering else None

    @property
    def ready(self) -> bool:
        """Tell whether the model can run what is not in the store."""
        return self._model.ready

    @property
    def decoupled(self) -> bool:
        """Tell whether a request may have any number of responses."""
        return self._model.decoupled

    @property
    def nesting(self) -> int:
        """Return how many ensembles a request may be in at a time."""
        return self._model.nesting

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Answer a request from the store, or run it and keep its response."""
        if not self._model.ready:
            self._model.submit(request, reply)
            return
        if self._turnstile is not None:
            reply = self._turnstile.join(reply)
        arrived_ns = self._clock.now_ns()
        key = self._keys.key(request)
        looked_ns = self._clock.now_ns()

        def found(entry: Entry | None) -> None:
            took_ns = self._clock.now_ns() - looked_ns
            if entry is None:
                self._model.submit(request, _Keeping(self, key, reply, took_ns))
            else:
                queue_ns = looked_ns - arrived_ns
                self._ledger.cache_hit(queue_ns + took_ns, queue_ns, took_ns)
                reply.send(entry.response(self.name, self.version, request.id), final=True)
                if request.trace is not None:
                    request.trace.start(self.name, self.version, request.id, arrived_ns)
                    request.trace.enqueue(request.inputs, arrived_ns)
                    request.trace.end(looked_ns + took_ns)

        self._store.lookup(key, found)

    async def close(self) -> None:
        """Close the model."""
        await self._model.close()

    def keep(self, key: bytes, response: InferResponse, lookup_ns: int) -> None:
        """Store a response, and count the miss."""
        began_ns = self._clock.now_ns()
        if self._store.insert(key, entry_of(response)) is Insertion.PRESENT:
            return
        self._ledger.cache_miss(lookup_ns + self._clock.now_ns() - began_ns)


class _Keeping:
    """The reply of a request that is not in the store: its only response is kept on its way to the client."""

    __slots__ = ("_key", "_lookup_ns", "_model", "_reply", "_sent")

    def __init__(self, model: CachedModel, key: bytes, reply: Reply, lookup_ns: int) -> None:
        self._model = model
        self._key = key
        self._reply = reply
        self._lookup_ns = lookup_ns
        self._sent = False

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Pass a response on; keep it if it is the first and the last."""
        if final and not self._sent and isinstance(response, InferResponse):
            self._model.keep(self._key, response, self._lookup_ns)
        self._sent = True
        self._reply.send(response, final=final)


def with_cache(model: Model, store: Store | None) -> Model:
    """Return the model behind the store, if its configuration wants that and there is one."""
    if store is None or not model.config.proto.response_cache.enable:
        return model
    return CachedModel(model, store)
