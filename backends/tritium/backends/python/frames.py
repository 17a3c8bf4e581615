"""What the server and a model's process say to each other, over one socket.

A frame is a length (four bytes, little endian) and a msgpack array of messages: everything that waited for the
other side at that moment. Server to process is `Down`, process to server is `Up`.

    server                                          process
                                     <----  Started
    Load                             ---->
                                     <----  Loaded                once
    Execute ...                      ---->                        any number ahead, run in order
                                     <----  Sent ..., Executed    responses of senders, then what execute returned
    Answer ..., Outcome              <--->  Call, Control         the model asks for another model
    Cancel, Hold, AskReady           ---->
    Grown, Freed                     <--->  Log, Metric..., ReadyAnswer, Grown, Freed
    Finalize                         ---->
                                     <----  Finalized             and the process ends
"""

import struct

import msgspec

LENGTH = struct.Struct("<I")
"""What stands before every frame."""

FATAL = b"!"
"""A frame that begins so is plain text: the process cannot start, and why. No msgpack frame begins with it."""

BEGUN = struct.Struct("<Q")
"""At offset 0 of the outbound arena's control page: the number of the last execution that the model has seen."""

INLINE_BYTES = 32 << 10
"""Up to this size a copy through the socket is cheaper than an allocation and a watched view (measured)."""

Parameters = dict[str, str | int | float | bool]


class Region(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Bytes in an arena: `start` is the allocation, `offset` and `size` the bytes meant inside the file.

    In a response `inbound` says that they lie in the arena of requests: an input handed back as it came.
    """

    start: int
    offset: int
    size: int
    inbound: bool = False


class TensorFrame(msgspec.Struct, array_like=True, gc=False):
    """A tensor in v2 binary form, inline or in an arena."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | Region


class TraceFrame(msgspec.Struct, array_like=True, gc=False):
    """The number of a traced request, and its place in a distributed trace as JSON text."""

    number: int
    context: str = ""


class RequestFrame(msgspec.Struct, array_like=True, gc=False):
    """One request; `outputs` empty means all of them, `timeout_us` 0 means none."""

    key: int
    inputs: list[TensorFrame]
    id: str = ""
    outputs: list[str] = []
    correlation_id: int | str = 0
    flags: int = 0
    timeout_us: int = 0
    parameters: Parameters | None = None
    trace: TraceFrame | None = None


class ResponseFrame(msgspec.Struct, array_like=True, gc=False):
    """One response. `code` is a TRITONSERVER_Error_Code, -1 where `error` is unset."""

    outputs: list[TensorFrame]
    error: str = ""
    code: int = -1
    parameters: Parameters | None = None


class Load(msgspec.Struct, array_like=True, gc=False, tag="load"):
    """Import the model and initialize it, or (with `complete`) only ask it to complete its configuration.

    `outputs` are the configured outputs with their v2 datatypes, `model_folder` is that of the version.
    """

    model_folder: str
    model_file: str
    import_name: str
    import_paths: list[str]
    arguments: dict[str, str]
    outputs: dict[str, str]
    decoupled: bool
    complete: bool = False


class Execute(msgspec.Struct, array_like=True, gc=False, tag="execute"):
    """Run one batch. Numbers rise by one within a process."""

    number: int
    requests: list[RequestFrame]


class Cancel(msgspec.Struct, array_like=True, gc=False, tag="cancel"):
    """A request is no longer wanted by its client."""

    key: int


class Hold(msgspec.Struct, array_like=True, gc=False, tag="hold"):
    """Whoever takes a request's responses wants no more of them for now, or goes on taking them."""

    key: int
    waits: bool


class Grown(msgspec.Struct, array_like=True, gc=False, tag="grown"):
    """The sender's arena has a further segment."""

    offset: int
    size: int


class Freed(msgspec.Struct, array_like=True, gc=False, tag="freed"):
    """Allocations of the receiver's arena that nobody here refers to any more."""

    starts: list[int]


class Answer(msgspec.Struct, array_like=True, gc=False, tag="answer"):
    """A response to a Call, or the end of its stream."""

    call: int
    response: ResponseFrame | None
    final: bool


class Outcome(msgspec.Struct, array_like=True, gc=False, tag="outcome"):
    """How a Control or the like ended: `error` is empty where it went well, `value` is what was asked for."""

    call: int
    error: str = ""
    value: bool | float = True


class AskReady(msgspec.Struct, array_like=True, gc=False, tag="ask_ready"):
    """Ask the model's own `is_ready`."""


class Finalize(msgspec.Struct, array_like=True, gc=False, tag="finalize"):
    """Finalize the model and end."""


class Started(msgspec.Struct, array_like=True, gc=False, tag="started"):
    """The process runs and waits for Load."""


class Loaded(msgspec.Struct, array_like=True, gc=False, tag="loaded"):
    """How loading ended: `error` is empty where it went well; `config` is the completed configuration in JSON.

    `code` is a TRITONSERVER_Error_Code, -1 where the model said none.
    """

    error: str = ""
    config: str = ""
    asks_ready: bool = False
    code: int = -1


class Executed(msgspec.Struct, array_like=True, gc=False, tag="executed"):
    """An execution returned. `responses` match its requests; None where a sender answers (or has answered).

    `again` are the keys of requests that the model wants to execute once more.
    """

    number: int
    responses: list[ResponseFrame | None]
    error: str
    input_ns: int
    infer_ns: int
    output_ns: int
    again: list[int] = []


class Sent(msgspec.Struct, array_like=True, gc=False, tag="sent"):
    """A response sender was used, or given up without a final flag (`dropped`)."""

    key: int
    response: ResponseFrame | None
    final: bool
    dropped: bool = False


class Call(msgspec.Struct, array_like=True, gc=False, tag="call"):
    """Run a request on another model of the server."""

    call: int
    model_name: str
    model_version: str
    request: RequestFrame
    decoupled: bool
    within: bool = False
    """Whether an execution waits for it: the model runs nothing else until it is answered."""


class CancelCall(msgspec.Struct, array_like=True, gc=False, tag="cancel_call"):
    """Responses to a call are no longer wanted."""

    call: int


class Control(msgspec.Struct, array_like=True, gc=False, tag="control"):
    """Load or unload a model, or ask whether one is ready: `verb` is load, unload or ready."""

    call: int
    verb: str
    model_name: str
    model_version: str = ""
    config: str = ""
    files: dict[str, bytes] = {}
    dependents: bool = False


class Log(msgspec.Struct, array_like=True, gc=False, tag="log"):
    """A line from the model's Logger; `level` is info, warning, error or debug."""

    level: str
    message: str


class DefineFamily(msgspec.Struct, array_like=True, gc=False, tag="define_family"):
    """A family of metrics; answered with an Outcome."""

    call: int
    name: str
    description: str
    kind: str


class DefineMetric(msgspec.Struct, array_like=True, gc=False, tag="define_metric"):
    """A metric that this model reports, known by `call` from now on; `buckets` for histograms."""

    call: int
    family: str
    kind: str
    labels: dict[str, str]
    buckets: list[float] = []


class ReadMetric(msgspec.Struct, array_like=True, gc=False, tag="read_metric"):
    """Ask for the value of a metric; answered with an Outcome."""

    call: int
    metric: int


class MetricDropped(msgspec.Struct, array_like=True, gc=False, tag="metric_dropped"):
    """The model no longer refers to a metric."""

    metric: int


class MetricChanged(msgspec.Struct, array_like=True, gc=False, tag="metric_changed"):
    """`verb` is increment, set or observe."""

    metric: int
    verb: str
    value: float


class ReadyAnswer(msgspec.Struct, array_like=True, gc=False, tag="ready_answer"):
    """What the model's `is_ready` said; an exception in it reads as not ready, with its text in `error`."""

    ready: bool
    error: str = ""


class Finalized(msgspec.Struct, array_like=True, gc=False, tag="finalized"):
    """The last message of a process."""


Task = Load | Execute | AskReady | Finalize
"""What a model does one after the other."""
Down = Task | Cancel | Hold | Grown | Freed | Answer | Outcome
Up = (
    Started
    | Loaded
    | Executed
    | Sent
    | Call
    | CancelCall
    | Control
    | Log
    | DefineFamily
    | DefineMetric
    | ReadMetric
    | MetricChanged
    | MetricDropped
    | ReadyAnswer
    | Grown
    | Freed
    | Finalized
)
