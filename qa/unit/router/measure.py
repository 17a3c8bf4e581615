"""Print what routing costs: `python qa/unit/router/measure.py [--memory]`. The numbers in docs/router.md are its.

Times are of the processor, so that what else the machine does matters little.
"""

import random
import resource
import sys
import time

from tritium.router.dump import Dump, decode, encode
from tritium.router.index import KvIndex
from tritium.router.router import Router
from tritium.router.tiers import Tier

BLOCK, WORKERS, PROMPT_BLOCKS = 16, 256, 512


def median_us(call, times=300) -> float:
    """Return the median time of a call."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return sorted(taken)[times // 2] * 1e6


def speed() -> None:
    """Measure hashing, matching, choosing and storing among 200,000 other blocks."""
    rng = random.Random(1)
    router = Router(BLOCK)
    prompt_tokens = [rng.randrange(32_000) for _ in range(BLOCK * PROMPT_BLOCKS)]
    stored_s = 0.0
    for worker in range(WORKERS):
        name = f"w{worker}"
        router.add(name, capacity_blocks=100_000, max_sequences=256)
        tokens = [rng.randrange(32_000) for _ in range(BLOCK * 800)]
        began = time.process_time()
        router.entered(name, router.prompt(tokens).blocks)
        stored_s += time.process_time() - began
        held = rng.choice([64, 128, 256, PROMPT_BLOCKS])
        router.entered(name, router.prompt(prompt_tokens[: held * BLOCK]).blocks)
    prompt = router.prompt(prompt_tokens)
    print(f"store a block, hash included     {stored_s / WORKERS / 800 * 1e6:7.2f} us")
    print(f"hash {PROMPT_BLOCKS} blocks                  {median_us(lambda: router.prompt(prompt_tokens)):7.1f} us")
    print(f"match among {WORKERS} workers          {median_us(lambda: router.index.match(prompt.blocks)):7.1f} us")
    print(f"choose among {WORKERS} workers         {median_us(lambda: router.choose(prompt)):7.1f} us")
    for worker in range(0, WORKERS, 2):
        hosted = rng.randrange(PROMPT_BLOCKS)
        router.index.host.store(worker, range(hosted, PROMPT_BLOCKS), prompt.blocks[hosted:])
    print(f"  with half of them on two tiers {median_us(lambda: router.choose(prompt)):7.1f} us")
    for worker in range(0, WORKERS, 2):
        router.index.host.clear(worker)
    leases = [router.lease(router.choose(prompt), prompt) for _ in range(64)]
    print(f"  with 64 of them prefilling     {median_us(lambda: router.choose(prompt)):7.1f} us")
    for lease in leases:
        router.book.release(lease)


def memory(workers=1000, blocks=10_000) -> None:
    """Fill an index with ten million different blocks."""
    index, rng = KvIndex(), random.Random(0)
    for worker in range(workers):
        index.add(worker, blocks)
        index.store(worker, [rng.getrandbits(64) for _ in range(blocks)], [rng.getrandbits(64) for _ in range(blocks)])
    prompt = [rng.getrandbits(64) for _ in range(PROMPT_BLOCKS)]
    for worker in range(WORKERS):
        index.store(worker, prompt, prompt)
    events = [[rng.getrandbits(64) for _ in range(64)] for _ in range(2000)]
    began = time.process_time()
    for number, hashes in enumerate(events):
        index.store(number % workers, hashes, hashes)
    stored_s = time.process_time() - began
    print(
        f"store a block in a full index    {stored_s / len(events) / 64 * 1e6:7.2f} us, dropping {index.dropped} others"
    )
    print(f"match {PROMPT_BLOCKS} blocks, {WORKERS} holders     {median_us(lambda: index.match(prompt)):7.1f} us")
    began = time.process_time()
    data = encode(Dump(BLOCK, {Tier.DEVICE: index.dump(0)}))
    print(f"dump a worker                    {(time.process_time() - began) * 1e3:7.1f} ms, {len(data) / 1e3:.0f} kB")
    began = time.process_time()
    index.restore(0, decode(data).tiers[Tier.DEVICE])
    print(f"restore it                       {(time.process_time() - began) * 1e3:7.1f} ms")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{workers} workers, {len(index)} blocks: {resident:.0f} MiB resident")


if __name__ == "__main__":
    speed()
    if "--memory" in sys.argv:
        memory()
