"""One execution: frames to requests, the model's `execute`, responses to frames, and what to say when it goes wrong."""

import sys
import time
import types
from typing import TYPE_CHECKING, Any

from tritium.backends.python import frames
from tritium.backends.python.process.blame import describe
from tritium.backends.python.process.link import Link
from tritium.compat.pb_utils import InferenceResponse, TritonError, TritonModelException
from tritium.compat.pb_utils.request import InferenceTrace, ReceivedRequest

if TYPE_CHECKING:
    from tritium.backends.python.process.coroutines import Coroutines


class Misuse(Exception):
    """The model broke the contract of its class; told without a traceback, for the fault is in what it returned."""

    def __init__(self, said: str, code: int = -1) -> None:
        super().__init__(said)
        self.code = code


class Executor:
    """Runs executions of a loaded model, one at a time."""

    def __init__(self, model: Any, name: str, link: Link) -> None:
        self._model = model
        self._name = name
        self._link = link
        self._codec = link.codec
        self._all_outputs = list(link.output_types)
        self._coroutines: Coroutines | None = None

    @property
    def coroutines(self) -> "Coroutines":
        """Return the loop for coroutines, made when the first is run."""
        if self._coroutines is None:
            from tritium.backends.python.process.coroutines import Coroutines  # noqa: PLC0415  # costs 40 ms

            self._coroutines = Coroutines()
        return self._coroutines

    def run(self, message: frames.Execute) -> frames.Executed:
        """Run one batch."""
        started = time.perf_counter_ns()
        requests = [self._request(frame) for frame in message.requests]
        entered = time.perf_counter_ns()
        returned, error = None, ""
        try:
            returned = self._call(requests)
        except Misuse as misuse:
            error = str(misuse)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as raised:  # noqa: BLE001  # whatever the model raises is the answer
            error = describe(raised)
        left = time.perf_counter_ns()
        responses: list[frames.ResponseFrame | None] = []
        again: list[int] = []
        if not error:
            error = self._encode(requests, returned, responses, again)
        if error:
            self._abandon(requests, responses)
            responses, again = [], []
        del requests, returned
        for response in responses:
            if response is not None:
                self._codec.settle(response)
        ended = time.perf_counter_ns()
        return frames.Executed(message.number, responses, error, entered - started, left - entered, ended - left, again)

    def call_ready(self) -> bool:
        """Ask the model's `is_ready`.

        Raises:
            Misuse: it returned something else than a bool.
        """
        answer = self._model.is_ready()
        if isinstance(answer, types.CoroutineType):
            answer = self.coroutines.run(answer)
        if not isinstance(answer, bool):
            raise Misuse("is_ready() must return a boolean value")
        return answer

    def stop(self) -> None:
        """End the loop of coroutines, if there is one."""
        if self._coroutines is not None:
            self._coroutines.stop()

    def _request(self, frame: frames.RequestFrame) -> ReceivedRequest:
        self._link.begin(frame)
        request = ReceivedRequest(
            frame.key,
            [self._codec.decode(tensor) for tensor in frame.inputs],
            frame.outputs or self._all_outputs,
            frame.id,
            frame.correlation_id,
            frame.flags,
            frame.timeout_us,
            frame.parameters,
            self._link,
        )
        if frame.trace is not None:
            request.join(InferenceTrace(frame.trace.context, frame.trace.number))
        return request

    def _call(self, requests: list[ReceivedRequest]) -> Any:
        execute = getattr(self._model, "execute", None)
        if execute is None:
            file = sys.modules[type(self._model).__module__].__file__
            raise Misuse(f"Python model {file} does not implement `execute` method.")
        returned = execute(requests)
        if not isinstance(returned, types.CoroutineType):
            return returned
        if not self._link.decoupled:
            return self.coroutines.run(returned)
        self.coroutines.start(returned, lambda error: self._fail_later(requests, error))
        return None

    def _encode(
        self,
        requests: list[ReceivedRequest],
        returned: Any,
        responses: list[frames.ResponseFrame | None],
        again: list[int],
    ) -> str:
        """Fill in what the model returned, and which requests it wants again; the text says what is wrong with it."""
        for request in requests:
            if request.rescheduled:
                if request.sender is not None:
                    request.sender.close()
                self._link.finish(request.key)
                again.append(request.key)
        if returned is None:
            responses += [None] * len(requests)
            return ""
        if self._link.decoupled:
            return f"Python model '{self._name}' is using the decoupled mode and the execute function must return None."
        if not isinstance(returned, list):
            return f"Expected a list in the execute return, found type '{type(returned)}'."
        if len(returned) != len(requests):
            return (
                "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
                f"InferenceRequest(s) size is:{len(requests)}, and InferenceResponse(s) size is:{len(returned)}\n"
            )
        for request, response in zip(requests, returned, strict=True):
            if response is None:
                responses.append(None)
                continue
            if request.rescheduled:
                return (
                    "Expected a None object in the execute function return list for reschduled request, "
                    f"found type '{type(response)}'."
                )
            if not isinstance(response, InferenceResponse):
                return (
                    "Expected an 'InferenceResponse' object in the execute function return list, "
                    f"found type '{type(response)}'."
                )
            try:
                if request.sender is not None:
                    request.sender.count(response, final=True)
                responses.append(self._link.encode(request.key, response, lend=True))
            except TritonModelException as error:
                return str(error)
            except Exception as error:  # noqa: BLE001  # a tensor that cannot be sent is the model's fault as well
                return describe(error)
        for request, frame in zip(requests, responses, strict=True):
            if frame is not None:
                self._link.finish(request.key)
        return ""

    def _abandon(self, requests: list[ReceivedRequest], responses: list[frames.ResponseFrame | None]) -> None:
        """Let nobody answer requests that the server will answer with the error of their execution."""
        for response in responses:
            if response is not None:
                self._codec.discard(response)
        for request in requests:
            if request.sender is not None:
                request.sender.close()
            self._link.finish(request.key)

    def _fail_later(self, requests: list[ReceivedRequest], error: BaseException) -> None:
        """Answer what a background coroutine left open when it raised."""
        text = f"Failed to process the request(s) for model '{self._name}', message: {describe(error)}"
        self._link.log("error", text)
        for request in requests:
            if request.key in self._link.open:
                if request.sender is not None:
                    request.sender.close()
                self._link.send(request.key, InferenceResponse(error=TritonError(text)), final=True)
