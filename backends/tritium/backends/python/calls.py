"""What a model asks of the server in the middle of its work: other models, loading and unloading, its metrics.

Call -> InferRequest -> host.submit -> Reply -> Answer ...
Control -> host.catalog -> Outcome
"""

import asyncio
from collections.abc import Callable

import structlog

from tritium.backends.contract import BackendHost
from tritium.backends.python import frames
from tritium.backends.python.outcomes import code_of
from tritium.backends.python.reports import Reports
from tritium.backends.python.worker import Worker
from tritium.core.catalog import LoadParameters
from tritium.core.errors import InferenceError, Internal, Unsupported
from tritium.core.request import NO_SEQUENCE, InferRequest, InferResponse, RequestedOutput, SequenceStep
from tritium.core.trace import traced_request
from tritium.core.waits import Caller, Wait

log = structlog.get_logger("tritium.python")

_START = 1
_END = 2


class Calls:
    """The calls of one process, for the instance `caller`; made anew with the process."""

    def __init__(self, caller: Caller, owner: str, host: BackendHost) -> None:
        self._caller = caller
        self._instance = caller.name
        self._host = host
        self._requests: dict[int, InferRequest] = {}
        self._controls: set[asyncio.Task[None]] = set()
        self._reports = Reports(owner, host.metrics)

    def take(self, worker: Worker, message: frames.Up) -> None:
        """Do what a message asks."""
        match message:
            case frames.Call():
                self._call(worker, message)
            case frames.CancelCall(number):
                if (request := self._requests.get(number)) is not None:
                    _cancel(request)
            case frames.Control():
                task = asyncio.ensure_future(self._control(worker, message))
                self._controls.add(task)
                task.add_done_callback(self._controls.discard)
            case frames.Log(level, text):
                getattr(log, level)("model_log", instance=self._instance, message=text)
            case (
                frames.DefineFamily()
                | frames.DefineMetric()
                | frames.ReadMetric()
                | frames.MetricChanged()
                | frames.MetricDropped()
            ):
                if (outcome := self._reports.take(message)) is not None:
                    worker.post(outcome)

    def abandon(self) -> None:
        """Cancel everything: the process that would hear of it has ended."""
        for request in list(self._requests.values()):
            _cancel(request)
        for task in self._controls:
            task.cancel()

    def _call(self, worker: Worker, message: frames.Call) -> None:
        frame = message.request
        sequence = NO_SEQUENCE
        if frame.correlation_id or frame.flags:
            sequence = SequenceStep(frame.correlation_id, bool(frame.flags & _START), bool(frame.flags & _END))
        request = InferRequest(
            message.model_name,
            message.model_version,
            frame.id,
            [worker.decode(tensor) for tensor in frame.inputs],
            [RequestedOutput(name) for name in frame.outputs],
            dict(frame.parameters or {}),
            sequence,
            timeout_us=frame.timeout_us,
        )
        if frame.trace is not None and (caller := traced_request(frame.trace.number)) is not None:
            request.trace = caller.child()
        self._requests[message.call] = request
        reply = _CallReply(worker, message, lambda: self._requests.pop(message.call, None))
        if self._host.submit is None:
            reply.send(Unsupported("this server runs one model alone: it cannot call others"), final=True)
        else:
            if message.within:
                request.wait = reply.wait = Wait(self._caller)
                request.wait.begin()
            self._host.submit(request, reply)
            reply.submitted = True

    async def _control(self, worker: Worker, message: frames.Control) -> None:
        outcome = frames.Outcome(message.call)
        try:
            outcome.value = await self._controlled(message)
        except InferenceError as error:
            outcome.error = error.message
        except Exception as error:
            # Whatever it was, the model waits for an answer.
            log.exception("model_control_failed", instance=self._instance, verb=message.verb, model=message.model_name)
            outcome.error = f"{type(error).__name__}: {error}"
        worker.post(outcome)

    async def _controlled(self, message: frames.Control) -> bool:
        catalog = self._host.catalog
        if catalog is None:
            raise Unsupported("this server runs one model alone: it cannot load others")
        match message.verb:
            case "load":
                files = {name.removeprefix("file:"): content for name, content in message.files.items()}
                await catalog.load(message.model_name, LoadParameters(message.config, files))
            case "unload":
                await catalog.unload(message.model_name, dependents=message.dependents)
            case _:
                try:
                    return catalog.model(message.model_name, message.model_version).ready
                except InferenceError:
                    return False
        return True


def _cancel(request: InferRequest) -> None:
    """Take a call back: nothing waits for it any more."""
    if request.wait is not None:
        request.wait.end()
    request.cancel()


class _CallReply:
    """Sends the responses to a call back into the process that called."""

    __slots__ = ("_decoupled", "_ended", "_forget", "_number", "_of", "_worker", "submitted", "wait")

    def __init__(self, worker: Worker, message: frames.Call, forget: Callable[[], object]) -> None:
        self._worker = worker
        self._number = message.call
        self._of = message.model_name
        self._decoupled = message.decoupled
        self._forget = forget
        self._ended = False
        self.submitted = False
        """Whether the request was taken; what is said before refuses it, in Triton's words for that."""
        self.wait: Wait | None = None
        """The wait that its last response ends, where an execution waits for it."""

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Pass one response on; a call that is not decoupled takes exactly one."""
        if final:
            self._forget()
        if self._ended:
            return
        if not self._decoupled and not final and not isinstance(response, InferenceError):
            response = Unsupported(
                f"Model {self._of} is using the decoupled. The current BLS request call doesn't support models using "
                "the decoupled transaction policy. Please use 'decoupled=True' argument to the 'exec' or 'async_exec' "
                "calls for decoupled models.'"
            )
        if response is None and not self._decoupled:
            response = Unsupported("Unexpected empty response.")
        if isinstance(response, InferenceError) and not self.submitted:
            response = Internal(f"Model {self._of} - Error when running inference: {response.message}")
        self._ended = final or not self._decoupled
        if self._ended and self.wait is not None:
            self.wait.end()
        frame = self._frame(response) if response is not None else None
        self._worker.post(frames.Answer(self._number, frame, self._ended))

    def _frame(self, response: InferResponse | InferenceError) -> frames.ResponseFrame:
        if isinstance(response, InferenceError):
            return frames.ResponseFrame([], response.message, code_of(response))
        try:
            outputs = self._worker.encode_all(response.outputs)
        except OSError as error:
            return self._frame(Internal(f"no shared memory for the outputs: {error.strerror}"))
        return frames.ResponseFrame(outputs, parameters=response.parameters or None)
