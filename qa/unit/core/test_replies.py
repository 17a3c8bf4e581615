"""The two ways to wait for a reply."""

import asyncio

import pytest

from tritium.core import replies
from tritium.core.errors import Internal, ModelFailed
from tritium.core.replies import SingleReply, StreamReply
from tritium.core.request import InferResponse
from tritium.core.scheduler.order import Turnstile
from tritium.core.tensor import Tensor

ONE, TWO = InferResponse("m", "1"), InferResponse("m", "1")


async def test_single_reply_waits_for_the_final_response() -> None:
    """The response may come before the end of the stream; errors come at once."""
    reply = SingleReply(asyncio.get_running_loop())
    reply.send(ONE, final=False)
    assert not reply.future.done()
    reply.send(None, final=True)
    assert await reply.future is ONE
    failed = SingleReply(asyncio.get_running_loop())
    failed.send(ModelFailed("boom"), final=False)
    failed.send(None, final=True)
    with pytest.raises(ModelFailed):
        await failed.future


async def test_single_reply_is_awaited_in_a_task_and_without_one() -> None:
    """Who drives a coroutine by hand is called back; an error is raised where the reply is awaited, in either case."""
    loop = asyncio.get_running_loop()

    async def waiting(reply: SingleReply) -> InferResponse:
        return await reply

    inside = SingleReply(loop)
    task = loop.create_task(waiting(inside))
    await asyncio.sleep(0)
    inside.send(ONE, final=True)
    assert await task is ONE
    ended: list[object] = []

    def drive(outcome: InferResponse | ModelFailed) -> None:
        reply = SingleReply(loop)
        coroutine = waiting(reply)
        assert coroutine.send(None) is reply
        reply.on_ready(lambda: ended.append(outcome))
        reply.send(outcome, final=True)
        try:
            coroutine.send(None)
        except (StopIteration, ModelFailed) as end:
            ended.append(end.value if isinstance(end, StopIteration) else end)

    failed = ModelFailed("boom")
    loop.call_soon(drive, ONE)
    loop.call_soon(drive, failed)
    await asyncio.sleep(0)
    assert ended == [ONE, ONE, failed, failed]


@pytest.mark.parametrize("responses", [[], [ONE, TWO]])
async def test_single_reply_takes_exactly_one(responses: list[InferResponse]) -> None:
    """No response, or two, is an error that says how many there were."""
    reply = SingleReply(asyncio.get_running_loop())
    for response in responses:
        reply.send(response, final=False)
    reply.send(None, final=True)
    with pytest.raises(Internal, match=f"expected a single response, got {len(responses)}"):
        await reply.future


async def test_stream_reply_yields_in_order_errors_included() -> None:
    """A stream goes on after an error, and ends with the final response."""
    reply = StreamReply()
    error = ModelFailed("one of many")

    async def send() -> None:
        for item, final in ((ONE, False), (error, False), (TWO, False), (None, True)):
            reply.send(item, final=final)
            await asyncio.sleep(0)

    sending = asyncio.ensure_future(send())
    assert [item async for item in reply] == [ONE, error, TWO]
    await sending


async def test_stream_reply_gives_a_client_up_that_does_not_read(monkeypatch) -> None:
    """Too far behind for too long, or too far at all: an error in place of what waits, and the request is told."""
    stalled: list[str] = []
    now_s = [100.0]
    monkeypatch.setattr(replies.time, "monotonic", lambda: now_s[0])
    big = InferResponse("m", "1", outputs=[Tensor("OUT", "UINT8", (16 << 20,), memoryview(bytes(16 << 20)))])

    late = StreamReply(lambda: stalled.append("late"))
    reading = aiter(late)
    for _ in range(5):
        for _ in range(5):
            late.send(big, final=False)
        now_s[0] += replies.CATCH_UP_S + 1
        assert [await anext(reading) for _ in range(5)] == [big] * 5
        late.send(big, final=False)
        assert await anext(reading) is big
    assert stalled == [], "who catches up may take long"
    for _ in range(5):
        late.send(big, final=False)
    now_s[0] += replies.CATCH_UP_S + 1
    late.send(big, final=False)
    late.send(big, final=True)
    (error,) = [item async for item in reading]
    assert "reads too slowly" in str(error)

    flooded = StreamReply(lambda: stalled.append("flooded"))
    for _ in range(65):
        flooded.send(big, final=False)
    (error,) = [item async for item in flooded]
    assert stalled == ["late", "flooded"]


def test_turnstile_lets_streams_through_in_turn() -> None:
    """The head passes at once, response by response; the others wait for its final one."""
    seen: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def send(self, response: object, *, final: bool) -> None:
            seen.append(self.name + ("!" if final else ""))

    turnstile = Turnstile()
    a, b = turnstile.join(Named("a")), turnstile.join(Named("b"))
    b.send(ONE, final=False)
    a.send(ONE, final=False)
    b.send(None, final=True)
    assert seen == ["a"]
    a.send(TWO, final=True)
    assert seen == ["a", "a!", "b", "b!"]
