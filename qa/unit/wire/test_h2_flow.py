"""Flow control and budgets as plain arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.wire.gate import Gate
from tritium.wire.h2.batch import Batch
from tritium.wire.h2.flow import Credit
from tritium.wire.h2.frames import Code, ConnectionFault, StreamFault
from tritium.wire.h2.guard import Budget
from tritium.wire.h2.outbox import HIGH_BYTES, Outbox
from tritium.wire.h2.replies import TRAILERS_OK


@given(st.integers(65_535, 1 << 24), st.lists(st.integers(1, 1 << 20), max_size=50))
def test_credit_never_lies(size, pieces):
    """What the peer was granted is what was used and given back; a peer that is served can always go on."""
    credit, window = Credit(size), size
    for wanted in pieces:
        piece = min(wanted, window)
        assert piece > 0
        assert credit.take(piece)
        window += credit.give(piece) - piece
        assert window >= size // 2
    assert not credit.take(window + 1)


def test_credit_costs_small_calls_no_frame():
    """Updates are few: one for each half of the window."""
    credit = Credit(1 << 20)
    updates = 0
    for _ in range(10_000):
        assert credit.take(300)
        updates += credit.give(300) > 0
    assert updates == 10_000 * 300 // (1 << 19)


def test_budget_refills_with_time_and_with_work():
    """A burst is free, then it takes time, or calls that end well."""
    now = 0.0
    budget = Budget("things", 10, 5, lambda: now)
    for _ in range(10):
        budget.spend()
    with pytest.raises(ConnectionFault, match="too many things") as fault:
        budget.spend()
    assert fault.value.code == Code.ENHANCE_YOUR_CALM
    now += 1.0
    for _ in range(4):
        budget.spend()
    with pytest.raises(ConnectionFault):
        budget.spend()
    for _ in range(100):
        budget.refund()
    for _ in range(10):
        budget.spend()


class Turn:
    """An event loop of which the turn ends when the test says so, by flushing."""

    def call_soon(self, callback):
        pass


@pytest.fixture
def box(transport):
    class Box(Outbox):
        """An outbox that shows what became of its frames."""

    transport.ended = []
    box = Box(Batch(transport, Turn()), Gate(), transport.ended.append)
    box.transport = transport
    return box


class Recording:
    """The data frames that were written, by stream."""

    def __init__(self, data: bytes) -> None:
        self.frames = []
        while data:
            size = int.from_bytes(data[:3], "big")
            self.frames.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
            data = data[9 + size :]

    def data(self, stream: int) -> bytes:
        return b"".join(payload for kind, _, each, payload in self.frames if kind == 0 and each == stream)


@given(
    st.lists(st.integers(0, 200_000), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 150_000)), max_size=40),
    st.integers(0, 100_000),
    st.sampled_from([16_384, 20_000, 131_072]),
)
def test_messages_leave_whole_within_any_windows(memory_transport, sizes, updates, initial_window, frame_bytes):
    """Whatever windows open in whatever order: no byte beyond them, none lost, trailers last, one frame limit."""
    transport, ended = memory_transport(), []
    outbox = Outbox(Batch(transport, Turn()), Gate(), ended.append)
    outbox.initial_window, outbox.frame_bytes = initial_window, frame_bytes
    windows = {0: 65_535}
    outlets = {}
    for index, size in enumerate(sizes):
        stream = 2 * index + 1
        outlets[stream] = outbox.open(stream)
        windows[stream] = initial_window
        outbox.send(outlets[stream], (b"\x55" * (size // 2), memoryview(b"\xaa" * (size - size // 2))), TRAILERS_OK)
    for target, credit in [*updates, *((index, 1 << 28) for index in range(7))]:
        if target == 0:
            outbox.widen(credit)
            windows[0] += credit
        elif target <= len(sizes):
            stream = 2 * target - 1
            outbox.widen_stream(outlets[stream], credit)
            windows[stream] += credit
        outbox.flush()
        sent = Recording(bytes(transport.written))
        assert sum(len(sent.data(stream)) for stream in outlets) <= windows[0]
        assert all(len(sent.data(stream)) <= windows[stream] for stream in outlets)
    assert all(len(payload) <= frame_bytes for kind, _, _, payload in sent.frames if kind == 0)
    for index, size in enumerate(sizes):
        stream = 2 * index + 1
        body = b"\x55" * (size // 2) + b"\xaa" * (size - size // 2)
        assert sent.data(stream) == b"\0" + size.to_bytes(4, "big") + body
        assert [frame for frame in sent.frames if frame[2] == stream][-1][3] == TRAILERS_OK
    assert sorted(ended) == sorted(outlets)
    assert outbox.pending_bytes == 0
    assert not outbox.waiting


def test_small_answer_is_one_write(box):
    """Headers, message and trailers leave together, and with them whatever else the turn brings."""
    box.send(box.open(1), b"reply", TRAILERS_OK)
    box.send(box.open(3), b"reply", TRAILERS_OK)
    assert box.transport.writes == 0
    box.flush()
    assert box.transport.writes == 1
    assert [frame[0] for frame in Recording(box.transport.take()).frames] == [1, 0, 1] * 2
    assert box.transport.ended == [1, 3]


def test_socket_that_is_full_holds_messages_back(box):
    """While the transport is paused nothing more is written to it; then everything is."""
    outlet = box.open(1)
    box.gate.close()
    box.send(outlet, b"a")
    box.finish(outlet, TRAILERS_OK)
    box.flush()
    assert box.transport.writes == 0
    box.gate.open()
    box.pump()
    box.flush()
    assert [frame[0] for frame in Recording(box.transport.take()).frames] == [1, 0, 1]


def test_stream_gate_follows_what_is_pending(box):
    """A writer is held back by its own stream, and let through when the peer catches up."""
    outlet = box.open(1)
    box.send(outlet, bytes(HIGH_BYTES + 100_000))
    assert outlet.gate.shut
    box.widen(1 << 20)
    box.widen_stream(outlet, 1 << 20)
    assert not outlet.gate.shut


def test_dropped_stream_is_forgotten(box):
    """After a reset nothing of the stream is left to send."""
    outlet = box.open(1)
    box.send(outlet, bytes(1 << 20))
    box.drop(outlet)
    box.flush()
    box.transport.take()
    box.widen(1 << 20)
    box.flush()
    assert box.transport.take() == b""
    assert box.pending_bytes == 0


def test_windows_do_not_overflow(box):
    """More than 2^31-1 is an error of whoever sent it."""
    with pytest.raises(StreamFault):
        box.widen_stream(box.open(1), (1 << 31) - 1)
    with pytest.raises(ConnectionFault):
        box.widen((1 << 31) - 1)


def test_stalled_answers_are_named_after_the_limit(box):
    """Only an answer that is complete, and has not moved for the whole time, counts as stalled."""
    finished, moving, streaming = box.open(1), box.open(3), box.open(5)
    for outlet in (finished, moving, streaming):
        outlet.window = 10
    box.send(finished, bytes(100), TRAILERS_OK)
    box.send(moving, bytes(100), TRAILERS_OK)
    box.send(streaming, bytes(100))
    assert box.stalled(0.0, 5.0) == []
    box.widen_stream(moving, 10)
    assert box.stalled(4.0, 5.0) == []
    assert box.stalled(6.0, 5.0) == [1]
