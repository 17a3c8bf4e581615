"""The router in a fleet of real worker processes: its modes, what it learns, and what it assumes."""

import pytest

from tritium.backends.engine import Media
from tritium.cluster.local import start_fleet
from tritium.cluster.spec import parse_fleet
from tritium.core.errors import InvalidArgument

PROMPT = list(range(1, 14))


async def went(fleet, request, collector) -> str:
    sink = collector()
    generation = fleet.generate(request, sink)
    await sink.end()
    assert sink.error is None
    return generation.route.worker


async def test_mode_at_run_time(fleet_of, request_for, collector):
    """The mode is another one from the next request on, and a name that is none leaves it as it was."""
    async with fleet_of("workers=2,router=round_robin") as fleet:
        turns = [await went(fleet, request_for(PROMPT), collector) for _ in range(4)]
        assert turns[0] != turns[1]
        assert turns[:2] == turns[2:]
        assert fleet.route_by("least-loaded") == "least_loaded"
        assert fleet.explain(PROMPT).because.startswith("least loaded; ")
        with pytest.raises(InvalidArgument, match="unknown router 'best'"):
            fleet.route_by("best")
        assert fleet.explain(PROMPT).because.startswith("least loaded; ")


async def test_sessions_stay(fleet_of, request_for, collector):
    """Requests of a session go to one worker, whatever their prompts; different sessions use both."""
    async with fleet_of("workers=2,router=session") as fleet:
        homes = {
            name: {await went(fleet, request_for([n, *PROMPT], session=name), collector) for n in range(1, 4)}
            for name in ("ann", "bob", "cid", "dan", "eve", "fay")
        }
        assert all(len(home) == 1 for home in homes.values())
        assert len(set.union(*homes.values())) == 2


async def test_lengths_and_pace_are_learnt(fleet_of, request_for, collector):
    """Finished answers tell how long the next will be, first tokens how fast a worker is; nothing stays booked."""
    async with fleet_of("workers=2") as fleet:
        for _ in range(3):
            await went(fleet, request_for(PROMPT, max_tokens=8), collector)
        router = fleet.workers.generating
        assert router._output_tokens == pytest.approx(8)
        assert sum(sums.count for sums in router.pace._each.values()) == pytest.approx(3, abs=0.1)
        assert all(load.active == load.decode_blocks == load.prefill_blocks == 0 for load in router.loads)


async def test_assumed_blocks(fleet_of, request_for, collector):
    """With `assumed_s` a worker is taken to hold what it was given, also without a word of its engine."""
    async with fleet_of("workers=2,assumed_s=60") as fleet:
        router = fleet.workers.generating
        worker = await went(fleet, request_for(PROMPT), collector)
        router.cleared(worker)
        again = await went(fleet, request_for(PROMPT), collector)
        assert fleet.explain(PROMPT).worker == again
        assert fleet.explain(PROMPT).overlap_blocks == len(PROMPT) // router.block_tokens


async def test_blocks_on_the_host_count(tmp_path, request_for, collector):
    """A prompt pushed out to host memory is found there, told as such, and not computed again."""
    fleet = await start_fleet(
        parse_fleet("workers=1"),
        name="m",
        engine="mocker",
        folder=tmp_path,
        arguments={
            "max_model_len": 640,
            "num_gpu_blocks_override": 40,
            "mocker": {"host_blocks": 400, "vocabulary": 1000},
        },
    )
    try:
        first = list(range(20, 340))
        await went(fleet, request_for(first), collector)
        for start in (400, 600):
            await went(fleet, request_for([start] * 320), collector)
        assert "on host" in fleet.explain(first).because
        sink = collector()
        fleet.generate(request_for(first), sink)
        await sink.end()
        assert sink.cached_tokens >= 300
    finally:
        await fleet.close()


async def test_prompts_with_images_are_found_beyond_them(fleet_of, request_for, collector):
    """Once an answer has told how long an image is, what comes after it is found; with another image it is not."""
    image = 77
    prompt = [*range(1, 9), image, *range(9, 21)]
    cat, dog = (Media("image", "image/png", name * 8) for name in (b"cat", b"dog"))

    async with fleet_of("workers=2", image_token=image) as fleet:

        async def overlap(media, tokens=prompt) -> tuple[int, int]:
            sink = collector()
            generation = fleet.generate(request_for(tokens, media=media), sink)
            assert (await sink.end()).error is None
            return generation.route.overlap_blocks, generation.route.prompt_blocks

        assert await overlap([cat]) == (0, 6)
        # 8 tokens, 24 of the image, 12 after it: 11 blocks of 4, all of them known now.
        assert await overlap([cat]) == (11, 11)
        assert await overlap([cat], [*prompt, 21, 22, 23, 24]) == (11, 12)
        # Of another image as long as this one only the beginning is the same, before and after its length is known.
        assert await overlap([dog]) == (2, 6)
        assert await overlap([cat], [0, *prompt]) == (0, 12)
        assert await overlap([dog, cat], [*range(1, 9), image, image]) == (8, 14)
