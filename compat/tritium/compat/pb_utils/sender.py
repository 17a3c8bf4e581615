"""The way to answer a request at any time, from any thread, and for decoupled models any number of times."""

import threading
from typing import TYPE_CHECKING

from tritium.compat.pb_utils.errors import TritonModelException
from tritium.compat.pb_utils.response import InferenceResponse

if TYPE_CHECKING:
    from tritium.compat.pb_utils.runtime import Runtime

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2


class InferenceResponseSender:
    """Sends responses until one carries TRITONSERVER_RESPONSE_COMPLETE_FINAL.

    A sender that is dropped without it ends its request: with an error where nothing was sent.
    """

    __slots__ = ("_closed", "_key", "_lock", "_runtime", "_sent")

    def __init__(self, key: int, runtime: "Runtime") -> None:
        self._key = key
        self._runtime = runtime
        self._closed = False
        self._sent = 0
        self._lock = threading.Lock()

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send one response, or only the final flag.

        Raises:
            TritonModelException: unknown flags, nothing to send, a sender that is closed, or a second response of
                a model that is not decoupled.
        """
        if flags not in {0, TRITONSERVER_RESPONSE_COMPLETE_FINAL}:
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and flags == 0:
            raise TritonModelException(
                "Inference Response object must be provided when the response flags is set to zero."
            )
        if response is not None and not isinstance(response, InferenceResponse):
            raise TypeError(f"send() takes a pb_utils.InferenceResponse, found {type(response)}")
        # Held while sending, so that responses sent by several threads arrive in the order they were counted.
        with self._lock:
            self.count(response, final=bool(flags))
            self._runtime.send(self._key, response, final=bool(flags))

    def count(self, response: InferenceResponse | None, *, final: bool) -> None:
        """Account for one response about to go.

        Raises:
            TritonModelException: it may not.
        """
        if not self._runtime.decoupled:
            if response is not None and self._sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send more than one response."
                )
            if response is None and not self._sent:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send complete final before sending a response."
                )
        if self._closed:
            raise TritonModelException("Unable to send response. Response sender has been closed.")
        self._closed = final
        self._sent += 1

    def is_cancelled(self) -> bool:
        """Tell whether the client took the request back."""
        return self._runtime.cancelled(self._key)

    @property
    def closed(self) -> bool:
        """Tell whether nothing more can be sent."""
        return self._closed

    def close(self) -> None:
        """Refuse whatever the model still sends: the request was answered otherwise."""
        self._closed = True

    def __del__(self) -> None:
        if not self._closed:
            self._runtime.dropped(self._key)
