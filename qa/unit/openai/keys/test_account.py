"""The limits of one key: requests and tokens a minute, and requests at once."""

import pytest

from tritium.openai.errors import LimitReached
from tritium.openai.keys.account import Account
from tritium.openai.keys.entry import KeyEntry


def _entry(**limits):
    return KeyEntry("team", "0" * 64, **limits)


def test_requests_a_minute():
    """A minute's worth may come at once; then it is one every so often, and the refusal says when."""
    account = Account(_entry(requests_per_minute=6), 100.0)
    for _ in range(6):
        account.admit(100.0)
    with pytest.raises(LimitReached, match="6 requests a minute") as caught:
        account.admit(100.0)
    assert caught.value.retry_s == 10
    with pytest.raises(LimitReached):
        account.admit(109.0)
    account.admit(110.0)
    assert (account.requests, account.refused) == (7, 2)


def test_tokens_a_minute():
    """What a request costs is known when it is over; a key that owes tokens waits until it owes none."""
    account = Account(_entry(tokens_per_minute=600), 0.0)
    account.admit(0.0)
    account.spend(400, 800, 0.0)
    with pytest.raises(LimitReached, match="600 tokens a minute") as caught:
        account.admit(0.0)
    assert caught.value.retry_s == 60
    account.admit(60.0)
    assert (account.prompt_tokens, account.answer_tokens) == (400, 800)


def test_requests_at_once():
    """A place is free again when a request is over."""
    account = Account(_entry(concurrent=2), 0.0)
    account.admit(0.0)
    account.admit(0.0)
    with pytest.raises(LimitReached, match="2 requests are under way"):
        account.admit(0.0)
    account.leave()
    account.admit(0.0)


def test_refused_request_costs_nothing():
    """A request that one limit refuses takes nothing from another."""
    account = Account(_entry(concurrent=1, requests_per_minute=2), 0.0)
    account.admit(0.0)
    for _ in range(5):
        with pytest.raises(LimitReached, match="under way"):
            account.admit(0.0)
    account.leave()
    account.admit(0.0)


def test_headers():
    """Clients read what is left under OpenAI's names."""
    account = Account(_entry(requests_per_minute=60, tokens_per_minute=6000), 0.0)
    account.admit(0.0)
    account.spend(100, 0, 0.0)
    assert dict(account.headers(0.0)) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1.000s",
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"5900",
        b"x-ratelimit-reset-tokens": b"1.000s",
    }
    assert Account(_entry(), 0.0).headers(0.0) == []


def test_amended():
    """A changed entry keeps the books, and what is left of the limits that did not change."""
    account = Account(_entry(requests_per_minute=2, concurrent=1), 0.0)
    account.admit(0.0)
    account.amend(_entry(requests_per_minute=2, concurrent=5), 0.0)
    account.admit(0.0)
    with pytest.raises(LimitReached, match="2 requests a minute"):
        account.admit(0.0)
    account.amend(_entry(requests_per_minute=100), 0.0)
    account.admit(0.0)
    assert (account.under_way, account.requests) == (3, 3)
