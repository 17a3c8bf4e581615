"""Where prompts are computed: what is learnt of transfers, and when it is tried anew. No processes."""

import pytest

from tritium.cluster.prefill import PROBE, PrefillDesk
from tritium.cluster.samples import prefill_samples
from tritium.router.disaggregation import Decoder, Reason, Thresholds
from tritium.router.router import Router


@pytest.fixture
def routers():
    """A decode and a prefill worker, of which it is known that a block takes them a millisecond."""
    generating, prefilling = Router(block_tokens=4), Router(block_tokens=4)
    generating.add("d", capacity_blocks=1000, max_sequences=10)
    prefilling.add("p", capacity_blocks=1000, max_sequences=10)
    for count in range(1, 21):
        prompt = prefilling.prompt(range(count * 1000, count * 1000 + 4 * count))
        lease = prefilling.lease(prefilling.choose(prompt), prompt, now_s=1.0)
        prefilling.prefilled(lease, now_s=1.0 + count * 0.001)
        prefilling.release(lease)
    return generating, prefilling


def _decide(desk, routers, tokens=80, start=0):
    prompt = routers[0].prompt(range(start, start + tokens))
    return desk.decide(prompt, routers[0].choose(prompt), *routers, Decoder())


def test_transfers_are_learnt():
    """What each takes and what a token takes are told apart; bytes follow from what the engines count."""
    desk = PrefillDesk(Thresholds())
    for tokens in (900, 100, 200, 300, 400, 500, 600):
        assert desk.transfer is None
        desk.transferred("p", "d", tokens, 9.0 if tokens == 900 else 0.010 + tokens * 0.0001)
    assert desk.transfer.base_s == pytest.approx(0.010)
    assert desk.transfer.slope_s == pytest.approx(0.0001)
    samples = {name: value for name, _, value in prefill_samples({}, desk, received_bytes=3_000_000.0)}
    assert samples["tritium_transfer_moved_tokens_total"] == 3000
    assert samples["tritium_transfer_learnt_bytes_per_second"] == pytest.approx(1000 / 0.0001)


def test_a_worker_that_comes_back_is_met_again():
    """The first transfer between two workers introduces them, and so does the first after one was lost."""
    desk = PrefillDesk(Thresholds())
    for _ in range(7):
        desk.transferred("p", "d", 100, 0.01)
    learnt = desk.transfer
    desk.forget("p")
    desk.transferred("p", "d", 100, 9.0)
    assert desk.transfer == learnt
    desk.transferred("p", "d", 100, 9.0)
    assert desk.transfer.at(100) > 0.1


def test_times_decide_and_are_told(routers):
    """Twenty blocks take 20 ms either way; a transfer of 100 ms is too long a detour, one of 10 is not."""
    desk = PrefillDesk(Thresholds())
    for _ in range(8):
        desk.transferred("p", "d", 80, 0.010)
    decision = _decide(desk, routers).decision
    assert decision.remote
    assert decision.local_s == pytest.approx(0.020, abs=1e-4)
    assert decision.remote_s == pytest.approx(0.030, abs=1e-3)
    for _ in range(200):
        desk.transferred("p", "d", 80, 0.100)
    decision = _decide(desk, routers).decision
    assert (decision.remote, decision.reason) == (False, Reason.DETOUR)


def test_detours_are_tried_again(routers):
    """One of sixteen goes all the same, then of twice as many, to notice when transfers become fast; asking is free."""
    desk = PrefillDesk(Thresholds())
    for _ in range(8):
        desk.transferred("p", "d", 80, 1.0)
    for between in (PROBE, 2 * PROBE):
        for number in range(between - 1):
            plan = _decide(desk, routers, start=1000 * number)
            assert plan.decision.reason is Reason.DETOUR
            assert plan == _decide(desk, routers, start=1000 * number)
            desk.count(plan)
        probe = _decide(desk, routers)
        assert (probe.decision.remote, probe.decision.reason, probe.route.worker) == (True, Reason.PROBE, "p")
        desk.count(probe)
    assert desk.decisions == {("local", Reason.DETOUR): 46, ("remote", Reason.PROBE): 2}
