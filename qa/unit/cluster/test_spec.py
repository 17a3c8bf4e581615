"""The fleet setting's grammar."""

import pytest

from tritium.backends.engine import Role
from tritium.cluster.spec import FleetSpec, parse_fleet
from tritium.core.errors import InvalidArgument
from tritium.router.choice import Mode


def test_reads():
    """Options come in any order and with spaces; nothing is one aggregated worker."""
    assert parse_fleet("") == FleetSpec()
    assert parse_fleet("workers=4, router=round-robin") == FleetSpec(workers=4, router=Mode.ROUND_ROBIN)
    disaggregated = parse_fleet("decode=2,prefill=1,hold_s=1.5,local_prefill_tokens=64")
    assert disaggregated.roles == {Role.PREFILL: 1, Role.DECODE: 2}
    assert (disaggregated.hold_s, disaggregated.local_prefill_tokens) == (1.5, 64)
    assert parse_fleet("workers=1,decode=1,prefill=2").roles == {Role.PREFILL: 2, Role.DECODE: 1, Role.AGGREGATED: 1}


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("worker=2", "unknown option 'worker'", "did you mean workers?"),
        ("zzz=2", "unknown option 'zzz'", "options are workers, prefill"),
        ("workers", "workers has no value", "write workers=..."),
        ("workers=1,workers=2", "workers is given twice", ""),
        ("workers=two", "workers=two is not a whole number", ""),
        ("workers=1.5", "workers=1.5 is not a whole number", ""),
        ("workers=-1", "workers=-1 is out of range", ""),
        ("hold_s=inf", "hold_s=inf is out of range", ""),
        ("hold_s=nan", "hold_s=nan is out of range", ""),
        ("workers=0", "workers=0 leaves nobody", "workers=1"),
        ("prefill=1", "needs at least one prefill and one decode worker", "prefill=1,decode=1"),
        ("prefill=0,decode=1", "needs at least one prefill", ""),
        ("router=best", "unknown router 'best'", "one of kv, round_robin, random, least_loaded"),
    ],
)
def test_refuses(text, words, hint):
    """What makes no fleet is refused with what to write instead."""
    with pytest.raises(InvalidArgument) as raised:
        parse_fleet(text)
    assert words in raised.value.message
    assert hint in raised.value.hint
