"""What becomes of a message that msgpack cannot hold: text that is no UTF-8 (lone surrogates), numbers beyond 64 bits.

Whoever waits for it is told so in its place; the other messages of its frame go their way.
"""

import msgspec

from tritium.backends.python import frames

_INTERNAL = 1
"""TRITONSERVER_ERROR_INTERNAL."""


def clean(text: str) -> str:
    """Return `text` as UTF-8 can hold it, lone surrogates written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def fault(content: object) -> str:
    """Say why a message, or a part of one, cannot be sent; empty where it can."""
    try:
        msgspec.msgpack.encode(content)
    except (UnicodeError, OverflowError, TypeError, ValueError) as error:
        return clean(f"it cannot be sent: {type(error).__name__}: {error}")
    return ""


def replacement(message: frames.Up, why: str) -> frames.Up:
    """Return what to send instead: the same answer as an error, or a line in the log."""
    match message:
        case frames.Executed():
            said = f"what execute() returned is wrong, {why}"
            return frames.Executed(message.number, [], said, message.input_ns, message.infer_ns, message.output_ns)
        case frames.Sent():
            response = frames.ResponseFrame([], f"a response of the model is wrong, {why}", _INTERNAL)
            return frames.Sent(message.key, response, message.final)
        case frames.Loaded():
            return frames.Loaded(error=f"what the model completed its configuration with is wrong, {why}")
        case _:
            return frames.Log("error", f"a message of the model ({type(message).__name__}) was dropped: {why}")


def refusal(message: frames.Up, why: str) -> frames.Answer | frames.Outcome | None:
    """Return what the model itself hears in place of the server's answer, if it asked for one."""
    match message:
        case frames.Call(call, model_name):
            said = f"the request to model {clean(model_name)!r} is wrong, {why}"
            return frames.Answer(call, frames.ResponseFrame([], said, _INTERNAL), final=True)
        case frames.Control(call, verb, model_name):
            return frames.Outcome(call, f"the request to {verb} model {clean(model_name)!r} is wrong, {why}")
        case frames.DefineFamily(call, name) | frames.DefineMetric(call, name):
            return frames.Outcome(call, f"metric {clean(name)!r} is wrong, {why}")
        case _:
            return None
