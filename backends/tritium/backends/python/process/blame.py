"""How an exception of the model is told: as Triton tells it, the innermost frame first."""

import types

from tritium.backends.python.process.unsendable import clean

MOST_TEXT = 64 << 10
"""Characters of an exception's text that are told; clients and logs get it whole."""
MOST_FRAMES = 50


def describe(error: BaseException) -> str:
    """Return `Type: text`, and below `At:` one line a frame, down to where the model was entered."""
    text = f"{type(error).__name__}: {_text(error)}"
    frames = _frames(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:
        # Its text has no folder, and no frame is in a file that could not be compiled.
        frames.insert(0, f"  {error.filename}({error.lineno or 0}): <module>\n")
    if len(frames) > MOST_FRAMES:
        half = MOST_FRAMES // 2
        frames[half:-half] = [f"  ... {len(frames) - 2 * half} more ...\n"]
    return clean(f"{text}\n\nAt:\n{''.join(frames)}" if frames else text)


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001  # the model's __str__ may do anything, sys.exit included
        return f"(no text: its __str__ raised {type(second).__name__})"
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}... ({len(text)} characters)"


def _frames(traceback: types.TracebackType | None) -> list[str]:
    if traceback is None:
        return []
    last = traceback
    while last.tb_next is not None:
        last = last.tb_next
    lines: list[str] = []
    frame: types.FrameType | None = last.tb_frame
    # By the frames, not by the traceback: the import system cuts itself out of tracebacks, Triton shows it.
    while frame is not None and not _ours(frame):
        lines.append(_line(frame, frame.f_lineno))
        frame = frame.f_back
    if frame is None:
        # A coroutine's frame does not lead back to who awaited it; the traceback does.
        lines = _by_traceback(traceback)
    return lines


def _by_traceback(traceback: types.TracebackType) -> list[str]:
    lines: list[str] = []
    step: types.TracebackType | None = traceback
    while step is not None:
        if not _ours(step.tb_frame):
            lines.append(_line(step.tb_frame, step.tb_lineno))
        step = step.tb_next
    return lines[::-1]


def _ours(frame: types.FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("tritium.backends.python")


def _line(frame: types.FrameType, number: int) -> str:
    return f"  {frame.f_code.co_filename}({number}): {frame.f_code.co_name}\n"
