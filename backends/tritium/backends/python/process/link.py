"""The runtime that `triton_python_backend_utils` speaks through: requests, calls, logs and metrics as messages."""

import os
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

from tritium.backends.python import frames
from tritium.backends.python.process.unsendable import clean, fault
from tritium.compat.pb_utils import InferenceRequest, InferenceResponse, Tensor, TritonError, TritonModelException

COROUTINES_THREAD = "tritium-asyncio"
"""The thread of the loop that runs a model's coroutines."""
LOOK_EVERY = 8
"""After so many responses of senders a model looks whether the next one is wanted: that is a call of the kernel's."""


class Pump(Protocol):
    """The way to the server and back; `process.pump` goes by a socket, `local.pump` calls."""

    def wait(self, done: Callable[[], bool]) -> None:
        """Wait until `done()`, which is asked after every arrival."""
        ...

    def poll(self) -> None:
        """Take what has arrived, without waiting."""
        ...

    def watch(self, what: object) -> None:
        """See that messages arrive until `unwatch(what)`, even when no thread of the model waits."""
        ...

    def unwatch(self, what: object) -> None:
        """Undo `watch`."""
        ...

    def add(self, message: frames.Up) -> None:
        """Queue a message until the next `flush`."""
        ...

    def post(self, message: frames.Up) -> None:
        """Send a message now."""
        ...

    def flush(self) -> None:
        """Send what is queued."""
        ...


class Codec(Protocol):
    """How tensors get into frames and out of them; `free_bytes` of its shared memory hold nothing."""

    @property
    def free_bytes(self) -> int:
        """Return the bytes that are set aside and hold nothing."""
        ...

    def decode(self, frame: frames.TensorFrame) -> Tensor:
        """Make the model's tensor; its memory may be written to."""
        ...

    def encode(self, tensor: Tensor, *, lend: bool = False) -> frames.TensorFrame:
        """Make the frame of a tensor; see `process.tensors` for `lend`."""
        ...

    def settle(self, response: frames.ResponseFrame) -> None:
        """Copy what was lent and is still referred to."""
        ...

    def discard(self, response: frames.ResponseFrame) -> None:
        """Take back what was stored for a response that will not be sent."""
        ...


class PendingCall:
    """The responses of one call, in the order they came."""

    def __init__(self, link: "Link", number: int) -> None:
        self._link = link
        self._number = number
        self._arrived: deque[InferenceResponse] = deque()
        self._ended = False
        self._callback: Callable[[], None] | None = None

    def take(self) -> InferenceResponse | None:
        """Wait for the next response; None once there are no more."""
        if not self._ready():
            self._link.pump.wait(self._ready)
        return self._arrived.popleft() if self._arrived else None

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call back once `take` would not wait."""
        self._callback = callback
        self._link.pump.watch(self)
        if self._ready():
            self._notify()

    def cancel(self) -> None:
        """Ask the other model to stop."""
        self._link.pump.post(frames.CancelCall(self._number))

    def deliver(self, response: InferenceResponse | None, *, final: bool) -> None:
        """Take a response in; called while reading."""
        if response is not None:
            self._arrived.append(response)
        self._ended = self._ended or final
        self._notify()

    def _ready(self) -> bool:
        return bool(self._arrived) or self._ended

    def _notify(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            self._link.pump.unwatch(self)
            callback()


class Link:
    """One for the process: what is open, and the messages it takes to answer it."""

    def __init__(self, pump: Pump, codec: Codec) -> None:
        self.pump = pump
        self.model_folder = ""
        self.decoupled = False
        self.output_names: frozenset[str] = frozenset()
        self.output_types: dict[str, str] = {}
        self.busy = False
        """Set while the main thread executes; it flushes afterwards."""
        self.open: set[int] = set()
        """Keys of requests that are not answered yet."""
        self.codec = codec
        self._last = 0
        """The newest request that began; keys rise."""
        self._cancelled: set[int] = set()
        self._held: set[int] = set()
        """Requests whose next response is not wanted yet."""
        self._sent = 0
        self._requested: dict[int, list[str]] = {}
        self._calls: dict[int, PendingCall] = {}
        self._outcomes: dict[int, frames.Outcome] = {}
        self._numbers = count(1)
        self._warned: set[str] = set()
        self._pid = os.getpid()

    def begin(self, frame: frames.RequestFrame) -> None:
        """Note a request that begins."""
        self.open.add(frame.key)
        self._last = frame.key
        if frame.outputs:
            self._requested[frame.key] = frame.outputs

    def finish(self, key: int) -> None:
        """Note a request that has had its last response."""
        self.open.discard(key)
        self._cancelled.discard(key)
        self._held.discard(key)
        self._requested.pop(key, None)

    def encode(self, key: int, response: InferenceResponse, *, lend: bool = False) -> frames.ResponseFrame:
        """Make the frame of a response, without the outputs nobody asked for."""
        error = response.error()
        if error is not None:
            return frames.ResponseFrame([], clean(error.message()), error.code())
        parameters = response.parameter_values or None
        if parameters is not None and (why := fault(parameters)):
            raise TritonModelException(f"the parameters of the response are wrong: {why}")
        wanted = self._requested.get(key, self.output_names)
        outputs = []
        for tensor in response.output_tensors():
            name, datatype = tensor.name(), tensor.datatype.name
            if name in wanted:
                outputs.append(self.codec.encode(tensor, lend=lend))
            if self.output_types.get(name) != datatype:
                self._warn_unlike_configured(name, datatype)
        return frames.ResponseFrame(outputs, parameters=parameters)

    def send(self, key: int, response: InferenceResponse | None, *, final: bool) -> None:
        """Send one response to a request; one that is not the last waits until it is wanted."""
        self._refuse_forks("answer a request")
        if not final:
            self._wait_until_wanted(key)
        frame = self.encode(key, response) if response is not None else None
        if final:
            self.finish(key)
        self.pump.post(frames.Sent(key, frame, final))

    def _wait_until_wanted(self, key: int) -> None:
        self._sent += 1
        if not self._sent % LOOK_EVERY:
            self.pump.poll()
        if key in self._held:
            self.pump.wait(lambda: key not in self._held or key in self._cancelled)

    def dropped(self, key: int) -> None:
        """Note that nobody can answer a request any more."""
        if key in self.open:
            self.finish(key)
            self.pump.post(frames.Sent(key, None, final=True, dropped=True))

    def cancelled(self, key: int) -> bool:
        """Tell whether the client took the request back."""
        if key not in self._cancelled:
            self.pump.poll()
        return key in self._cancelled

    def call(self, request: InferenceRequest, *, decoupled: bool) -> PendingCall:
        """Run a request on another model."""
        self._refuse_forks("call other models")
        number, trace = next(self._numbers), request.trace()
        pending = self._calls[number] = PendingCall(self, number)
        frame = frames.RequestFrame(
            number,
            [self.codec.encode(tensor) for tensor in request.inputs()],
            request.request_id(),
            request.requested_output_names(),
            request.correlation_id(),
            request.flags(),
            request.timeout(),
            request.parameter_values or None,
            frames.TraceFrame(trace.number) if trace.number else None,
        )
        version = "" if request.model_version < 0 else str(request.model_version)
        self.pump.post(frames.Call(number, request.model_name, version, frame, decoupled, self._execution_waits()))
        return pending

    def _execution_waits(self) -> bool:
        """Tell whether this is `execute` itself, or the coroutine that it waits for."""
        if not self.busy:
            return False
        thread = threading.current_thread()
        return thread is threading.main_thread() or (not self.decoupled and thread.name == COROUTINES_THREAD)

    def control(self, verb: str, model_name: str, **details: Any) -> bool:
        """Load or unload a model, or ask whether it is ready, and wait for the outcome."""
        return bool(self._ask(frames.Control(next(self._numbers), verb, model_name, **details)))

    def free_memory(self) -> int:
        """Return the bytes of shared memory that are set aside and hold nothing."""
        return self.codec.free_bytes

    def log(self, level: str, message: str) -> None:
        """Write to the server's log."""
        self.pump.post(frames.Log(level, clean(message)))

    def define_family(self, name: str, description: str, kind: str) -> None:
        """Define a family of metrics."""
        self._ask(frames.DefineFamily(next(self._numbers), name, description, kind))

    def define_metric(self, family: str, kind: str, labels: dict[str, str], buckets: list[float]) -> int:
        """Define a metric and return its number."""
        number = next(self._numbers)
        self._ask(frames.DefineMetric(number, family, kind, labels, buckets))
        return number

    def read_metric(self, metric: int) -> float:
        """Return the value of a counter or gauge."""
        return float(self._ask(frames.ReadMetric(next(self._numbers), metric)))

    def drop_metric(self, metric: int) -> None:
        """Note that the model no longer refers to a metric."""
        self.pump.post(frames.MetricDropped(metric))

    def change_metric(self, metric: int, verb: str, value: float) -> None:
        """Report a change; inside an execution it leaves with the next message, at the latest when that returns."""
        self.pump.add(frames.MetricChanged(metric, verb, value))
        if not self.busy:
            self.pump.flush()

    def take(self, message: frames.Answer | frames.Outcome | frames.Cancel | frames.Hold) -> None:
        """Take in a message of the server; called while reading."""
        match message:
            case frames.Cancel(key):
                if key in self.open or key > self._last:
                    self._cancelled.add(key)
            case frames.Hold(key, waits):
                if waits and key in self.open:
                    self._held.add(key)
                else:
                    self._held.discard(key)
            case frames.Outcome(number):
                self._outcomes[number] = message
            case frames.Answer(number, response, final):
                pending = self._calls[number]
                if final:
                    del self._calls[number]
                pending.deliver(self._decode(response) if response is not None else None, final=final)

    def _ask(self, question: frames.Control | frames.DefineFamily | frames.DefineMetric | frames.ReadMetric) -> float:
        """Wait for the outcome of a question."""
        self._refuse_forks("ask the server")
        number = question.call
        self.pump.post(question)
        self.pump.wait(lambda: number in self._outcomes)
        outcome = self._outcomes.pop(number)
        if outcome.error:
            raise TritonModelException(outcome.error)
        return outcome.value

    def _refuse_forks(self, what: str) -> None:
        """Refuse what a fork of this process cannot do: socket and shared memory are its parent's."""
        if os.getpid() != self._pid:
            raise TritonModelException(
                f"a process that the model forked cannot {what}: hand what it made to the model's own process, "
                "for example through a multiprocessing.Pipe, and do it there"
            )

    def _decode(self, frame: frames.ResponseFrame) -> InferenceResponse:
        if frame.code >= 0:
            return InferenceResponse(error=TritonError(frame.error, frame.code))
        return InferenceResponse([self.codec.decode(tensor) for tensor in frame.outputs], None, frame.parameters)

    def _warn_unlike_configured(self, name: str, datatype: str) -> None:
        if name in self._warned or not self.output_types:
            return
        self._warned.add(name)
        configured = self.output_types.get(name)
        if configured:
            said = f"is {datatype}, but the configuration says {configured}"
        else:
            said = f"is not in the configuration and was dropped; it has {sorted(self.output_types)}"
        self.pump.add(frames.Log("warning", f"output '{clean(name)}' {said}"))
