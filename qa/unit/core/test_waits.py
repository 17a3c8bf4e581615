"""Circles of calls, drawn by hand: who waits for whom, and which call is one too many."""

import pytest

from tritium.core.errors import Internal
from tritium.core.request import InferRequest
from tritium.core.waits import Wait


class Instance:
    """An instance of a model, as far as waiting goes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waits: set[Wait] = set()


class Elsewhere:
    """An instance that never calls anybody, of any other backend."""

    name = "elsewhere"


def call(caller: Instance, *pools: list) -> Wait:
    """Have an instance call models of these instances, and wait."""
    wait = Wait(caller)
    wait.begin()
    for pool in pools:
        wait.queue(InferRequest("m"), pool)
    return wait


def taken(caller: Instance, by: Instance, pool: list) -> Wait:
    """Have an instance call a model, one of whose instances has begun with it."""
    wait, request = Wait(caller), InferRequest("m")
    wait.begin()
    wait.queue(request, pool)
    wait.take(request, by)
    return wait


def test_a_circle_of_three_is_told_with_its_members():
    """The last call is refused and names everybody; the others stay as they are."""
    a, b, c = Instance("a"), Instance("b"), Instance("c")
    taken(a, b, [b])
    taken(b, c, [c])
    with pytest.raises(Internal, match=r"by model instance 'c' would wait for ever: .* are a, b, c \("):
        call(c, [a])


def test_one_instance_that_is_free_is_enough():
    """Of a model some of whose instances wait, another answers."""
    a, b, spare = Instance("a"), Instance("b"), Instance("spare")
    taken(a, b, [b])
    call(b, [a, spare])


def test_a_call_depends_on_the_instance_that_has_it():
    """Once an instance has begun with a request, its idle siblings do not help."""
    a, b, sibling = Instance("a"), Instance("b"), Instance("sibling")
    taken(a, b, [b, sibling])
    with pytest.raises(Internal, match="are a, b"):
        call(b, [a])


def test_all_calls_of_an_execution_must_end():
    """Of two calls at once, one that ends does not help the other."""
    a, b = Instance("a"), Instance("b")
    call(a, [Elsewhere()])
    taken(a, b, [b])
    with pytest.raises(Internal):
        call(b, [a])


def test_what_is_over_is_forgotten():
    """A call that was answered, and a request whose execution has ended, hold up nobody."""
    a, b = Instance("a"), Instance("b")
    taken(a, b, [b]).end()
    call(b, [a]).end()
    wait, request = Wait(a), InferRequest("m")
    wait.begin()
    wait.queue(request, [b])
    wait.take(request, b)
    wait.leave(request)
    call(b, [a])


def test_a_queue_before_instances_at_work_is_no_circle():
    """Instances that do not wait themselves will be free, whatever they do now."""
    callers, worker = [Instance(f"c{index}") for index in range(5)], Instance("worker")
    for caller in callers:
        call(caller, [worker])
    taken(worker, Elsewhere(), [Elsewhere()])
