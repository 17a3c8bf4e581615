"""Print what routing costs: `python qa/unit/router/measure.py [--memory]`. The numbers in docs/routing.md are its."""

import random
import resource
import sys
import time

from tritium.router.index import KvIndex
from tritium.router.router import Router

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
        hashes = [rng.getrandbits(64) for _ in range(800)]
        began = time.process_time()
        router.stored(name, hashes, None, tokens)
        stored_s += time.process_time() - began
        held = rng.choice([64, 128, 256, PROMPT_BLOCKS])
        router.stored(name, [rng.getrandbits(64) for _ in range(held)], None, prompt_tokens[: held * BLOCK])
    prompt = router.prompt(prompt_tokens)
    print(f"store a block, hash included     {stored_s / WORKERS / 800 * 1e6:7.2f} us")
    print(f"hash {PROMPT_BLOCKS} blocks                  {median_us(lambda: router.prompt(prompt_tokens)):7.1f} us")
    print(f"match among {WORKERS} workers          {median_us(lambda: router.index.match(prompt.blocks)):7.1f} us")
    print(f"choose among {WORKERS} workers         {median_us(lambda: router.choose(prompt)):7.1f} us")
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
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{workers} workers, {len(index)} blocks: {resident:.0f} MiB resident")


if __name__ == "__main__":
    speed()
    if "--memory" in sys.argv:
        memory()
