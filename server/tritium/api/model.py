"""A model of a server in this program: asked for metadata, and for inferences."""

import asyncio
from collections.abc import Callable
from enum import IntFlag
from typing import TYPE_CHECKING, Any

from tritium.api.errors import InvalidArgumentError
from tritium.api.request import InferenceRequest
from tritium.api.response import AsyncResponseIterator, Inbox, InferenceResponse, ResponseIterator
from tritium.compat.config.json import to_dict
from tritium.core.description import describe_model, describe_statistics
from tritium.core.errors import InferenceError
from tritium.core.request import InferRequest

if TYPE_CHECKING:
    from tritium.api.server import Server


class ModelBatchFlag(IntFlag):
    """Which dimension is the batch, numbered as TRITONSERVER_ModelBatchFlag."""

    UNKNOWN = 1
    FIRST_DIM = 2


class ModelTxnPropertyFlag(IntFlag):
    """How many responses a request has, numbered as TRITONSERVER_ModelTxnPropertyFlag."""

    ONE_TO_ONE = 1
    DECOUPLED = 2


class Model:
    """A model by name, and a version of it (-1: the newest one). `state` and `reason` are those of the index."""

    def __init__(
        self, server: "Server", name: str, version: int = -1, state: str | None = None, reason: str | None = None
    ) -> None:
        self.name = name
        self.version = version
        self.state = state
        self.reason = reason
        self._server = server

    @property
    def wanted_version(self) -> str:
        """Return the version as the server spells it: empty for the newest one."""
        return str(self.version) if self.version >= 0 else ""

    def create_request(self, **fields: Any) -> InferenceRequest:
        """Make a request of this model; the fields are InferenceRequest's."""
        return InferenceRequest(self, **fields)

    def infer(
        self,
        inference_request: InferenceRequest | None = None,
        raise_on_error: bool = True,  # noqa: FBT001, FBT002  # Triton's
        **fields: Any,
    ) -> ResponseIterator:
        """Send a request, and return the iterator of its responses; the fields make a request where none is given.

        Raises:
            InvalidArgumentError: the request cannot be sent.
        """
        request = inference_request or InferenceRequest(self, **fields)
        decoded = request.decoded()
        iterator = ResponseIterator(lambda: self._cancel(decoded), raise_on_error=raise_on_error)
        put: Callable[[InferenceResponse], None] = iterator.put
        if (extra := request.response_queue) is not None:
            if isinstance(extra, asyncio.Queue):
                raise InvalidArgumentError("infer() takes a queue.SimpleQueue as response_queue")

            def put(response: InferenceResponse) -> None:
                iterator.put(response)
                extra.put(response)

        self._submit(decoded, Inbox(self, request.request_id, put))
        return iterator

    def async_infer(
        self,
        inference_request: InferenceRequest | None = None,
        raise_on_error: bool = True,  # noqa: FBT001, FBT002  # Triton's
        **fields: Any,
    ) -> AsyncResponseIterator:
        """Send a request from an event loop, and return the asynchronous iterator of its responses.

        Raises:
            InvalidArgumentError: the request cannot be sent.
        """
        request = inference_request or InferenceRequest(self, **fields)
        decoded = request.decoded()
        iterator = AsyncResponseIterator(lambda: self._cancel(decoded), raise_on_error=raise_on_error)
        put: Callable[[InferenceResponse], None] = iterator.put
        if (extra := request.response_queue) is not None:
            if not isinstance(extra, asyncio.Queue):
                raise InvalidArgumentError("async_infer() takes an asyncio.Queue as response_queue")
            loop = asyncio.get_running_loop()

            def put(response: InferenceResponse) -> None:
                iterator.put(response)
                loop.call_soon_threadsafe(extra.put_nowait, response)

        self._submit(decoded, Inbox(self, request.request_id, put))
        return iterator

    def ready(self) -> bool:
        """Tell whether the model can take requests."""

        def look() -> bool:
            try:
                return self._server.running.state.catalog.model(self.name, self.wanted_version).ready
            except InferenceError:
                return False

        return self._server.running.call(look)

    def metadata(self) -> dict[str, Any]:
        """Return the inputs and outputs.

        Raises:
            TritonError: there is no such model, or it is not ready.
        """
        running = self._server.running
        return running.call(lambda: describe_model(running.state, self.name, self.wanted_version))

    def config(self, config_version: int = 1) -> dict[str, Any]:
        """Return the configuration, as it was completed.

        Raises:
            TritonError: there is no such model, or another version of configurations than 1 is wanted.
        """
        if config_version != 1:
            raise InvalidArgumentError("model configuration version must be 1")
        running = self._server.running
        return running.call(lambda: to_dict(running.state.catalog.model(self.name, self.wanted_version).config.proto))

    def statistics(self) -> dict[str, Any]:
        """Return what was counted and timed.

        Raises:
            TritonError: there is no such model.
        """
        running = self._server.running
        return running.call(lambda: describe_statistics(running.state, self.name, self.wanted_version))

    def batch_properties(self) -> ModelBatchFlag:
        """Tell whether the first dimension of its tensors is the batch."""
        batches = self.config()["max_batch_size"] > 0
        return ModelBatchFlag.FIRST_DIM if batches else ModelBatchFlag.UNKNOWN

    def transaction_properties(self) -> ModelTxnPropertyFlag:
        """Tell whether a request has one response, or any number."""
        policy = self.config().get("model_transaction_policy", {})
        return ModelTxnPropertyFlag.DECOUPLED if policy.get("decoupled") else ModelTxnPropertyFlag.ONE_TO_ONE

    def __repr__(self) -> str:
        return str({"name": self.name, "version": self.version, "state": self.state})

    def _submit(self, request: InferRequest, reply: Inbox) -> None:
        running = self._server.running

        def submit() -> None:
            try:
                running.state.catalog.model(request.model_name, request.model_version).submit(request, reply)
            except InferenceError as error:
                reply.send(error, final=True)

        running.loop.call_soon_threadsafe(submit)

    def _cancel(self, request: InferRequest) -> None:
        self._server.running.loop.call_soon_threadsafe(request.cancel)
