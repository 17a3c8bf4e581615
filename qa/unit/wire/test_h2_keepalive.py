"""Pings as arithmetic: when the server asks, whom it gives up, and whose pings it takes."""

import pytest

from tritium.wire.grpc import Keepalive
from tritium.wire.h2.frames import Code, ConnectionFault
from tritium.wire.h2.keepalive import TOO_MANY_PINGS, Pings

ASKING = Keepalive(ping_s=10, answer_s=5, without_calls=True, pings_without_data=0)
STRICT = Keepalive(strikes=2, client_ping_s=300, without_calls=True)


def test_a_silent_client_is_asked_once_and_then_given_up():
    """One ping after the silence, none on top of it, and the end when nothing is heard."""
    pings = Pings(ASKING, 0)
    assert not pings.due(9, 0, heard=False, idle=False)
    assert pings.due(10, 0, heard=False, idle=False)
    assert not pings.due(11, 0, heard=False, idle=False)
    assert not pings.lost(15)
    assert pings.lost(15.1)


def test_whatever_is_heard_counts_as_an_answer():
    """The silence begins again with anything that the client sends."""
    pings = Pings(ASKING, 0)
    assert pings.due(10, 0, heard=False, idle=False)
    assert not pings.due(12, 0, heard=True, idle=False)
    assert not pings.lost(100)
    assert pings.due(22, 0, heard=False, idle=False)


def test_nobody_is_asked_unless_that_is_wished():
    """Without a period there are no pings; without a call only where that is permitted."""
    assert not Pings(Keepalive(), 0).due(1e9, 0, heard=False, idle=False)
    quiet = Pings(Keepalive(ping_s=10), 0)
    assert not quiet.due(20, 0, heard=False, idle=True)
    assert quiet.due(20, 0, heard=False, idle=False)


def test_pings_without_data_are_counted():
    """After so many pings it takes data for another one."""
    pings = Pings(Keepalive(ping_s=10, pings_without_data=2), 0)
    assert pings.due(10, 0, heard=False, idle=False)
    assert not pings.due(11, 0, heard=True, idle=False)
    assert pings.due(21, 0, heard=False, idle=False)
    assert not pings.due(22, 0, heard=True, idle=False)
    assert not pings.due(40, 0, heard=False, idle=False)
    assert pings.due(41, 1, heard=False, idle=False)


def test_a_client_that_pings_too_often_is_told_in_the_words_that_clients_know():
    """The first ping is free, two strikes are forgiven, the third ends the connection."""
    pings = Pings(STRICT, 0)
    for now in (0, 1, 2):
        pings.received(now, 0, idle=False)
    with pytest.raises(ConnectionFault, match=TOO_MANY_PINGS) as fault:
        pings.received(3, 0, idle=False)
    assert fault.value.code == Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("gap", [300, 1000])
def test_pings_far_enough_apart_are_no_strikes(gap):
    """A client may ping for ever at the period that is permitted."""
    pings = Pings(STRICT, 0)
    for number in range(100):
        pings.received(number * gap, 0, idle=False)


def test_data_in_between_forgives():
    """Who is sent something between two pings may ping as often as it likes."""
    pings = Pings(STRICT, 0)
    for number in range(100):
        pings.received(number * 0.01, number // 3, idle=False)
    for _ in range(100):
        pings.forgive()
        pings.received(2, 50, idle=False)


def test_a_client_without_calls_is_judged_by_hours():
    """Where pings without calls are not permitted, the period that counts is two hours."""
    pings = Pings(Keepalive(strikes=1, client_ping_s=1), 0)
    pings.received(0, 0, idle=True)
    pings.received(100, 0, idle=True)
    with pytest.raises(ConnectionFault):
        pings.received(200, 0, idle=True)


def test_without_strikes_every_ping_is_taken():
    """0 strikes set no bound."""
    pings = Pings(Keepalive(strikes=0), 0)
    for _ in range(1000):
        pings.received(0, 0, idle=True)
