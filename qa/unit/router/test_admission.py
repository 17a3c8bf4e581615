"""The waiting room: who goes next, who may not wait, and that nothing is lost or counted twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritium.core.errors import Overloaded
from tritium.router.admission import Bounds, Ticket, WaitingRoom, has_room, saturated
from tritium.router.book import WorkerLoad


def room_of(*tickets, **bounds):
    room = WaitingRoom(Bounds(**bounds))
    for ticket in tickets:
        room.enter(ticket, 0.0)
    return room


def turns(room) -> str:
    order = []
    while (ticket := room.next()) is not None:
        order.append(ticket.tenant)
    return "".join(order)


def test_tenants_take_turns():
    """Who brought a hundred requests first does not keep waiting who brings two."""
    room = room_of(*[Ticket("a", 10) for _ in range(100)], *[Ticket("b", 10) for _ in range(2)])
    assert turns(room)[:6] == "ababaa"


def test_turns_go_by_work():
    """A tenant whose prompts are three times as long gets a third of the turns."""
    room = room_of(*[Ticket("a", 30) for _ in range(8)], *[Ticket("b", 10) for _ in range(24)])
    first = turns(room)[:16]
    assert (first.count("a"), first.count("b")) == (4, 12)


def test_a_rest_earns_nothing():
    """A tenant that was away comes in where the others are: it does not go first until it has caught up."""
    room = room_of(*[Ticket("a", 10) for _ in range(50)])
    for _ in range(40):
        room.next()
    for _ in range(5):
        room.enter(Ticket("b", 10), 0.0)
    assert turns(room)[:8].count("b") <= 4


def test_lower_priorities_go_first():
    """The number is the engine's: -1 before 0 before 1, whoever came first."""
    room = room_of(Ticket("a", 1, 1), Ticket("b", 1, 0), Ticket("c", 1, -1))
    assert turns(room) == "cba"


def test_bounds():
    """Beyond the bounds of all and of one tenant a request is refused with 429, in words that say which."""
    room = room_of(Ticket("a", 1), Ticket("a", 1), Ticket("b", 1), most_waiting=4, most_waiting_a_tenant=2)
    with pytest.raises(Overloaded, match="2 requests of 'a' wait"):
        room.enter(Ticket("a", 1), 0.0)
    room.enter(Ticket("b", 1), 0.0)
    with pytest.raises(Overloaded, match="4 requests wait"):
        room.enter(Ticket("c", 1), 0.0)
    assert len(room) == 4


def test_waiting_ends():
    """Who has waited too long is taken out once and told so with 503; who was cancelled is not."""
    early, late, cancelled = Ticket("a", 1), Ticket("b", 1), Ticket("c", 1)
    room = room_of(early, cancelled, most_wait_s=10)
    room.enter(late, 5.0)
    room.cancel(cancelled)
    room.cancel(cancelled)
    assert room.expire(9.0) == []
    assert room.expire(10.0) == [early]
    assert room.expire(10.0) == []
    assert "within 10 s" in room.too_long().message
    assert room.next() is late
    assert len(room) == 0


def test_those_who_left_leave_nothing():
    """Requests that come and are cancelled while no worker has room, each by another tenant, do not pile up."""
    room = room_of(Ticket("a", 1))
    for number in range(5000):
        ticket = Ticket(f"user {number}", 1)
        room.enter(ticket, 0.0)
        room.cancel(ticket)
    queue = room._queues[0]
    assert len(queue.heap) + len(queue.times) < 500
    assert turns(room) == "a"


def test_when_a_worker_has_room():
    """By sequences or by what waits to be computed; an idle worker takes a prompt of any length."""
    load = WorkerLoad("a", 0, max_sequences=4, active=3, prefill_blocks=50)
    assert has_room(load)
    assert not has_room(load, most_prefill_blocks=50)
    idle = WorkerLoad("b", 1, max_sequences=4)
    assert has_room(idle, most_prefill_blocks=1)
    full = WorkerLoad("c", 2, max_sequences=3, active=3)
    assert saturated([full])
    assert not saturated([full, idle])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from("abc"), st.integers(1, 9), st.integers(-1, 1)),
        st.tuples(st.just("next")),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("expire"), st.integers(0, 30)),
    ),
    max_size=60,
)


@given(STEPS)
def test_everybody_goes_once(steps):
    """Each ticket leaves once, by one door; counts are right; priorities hold; a tenant's keep their order."""
    room, entered, left, now_s = WaitingRoom(Bounds(most_waiting=12, most_wait_s=10)), [], [], 0.0
    for step in steps:
        now_s += 1
        waiting = [ticket for ticket in entered if ticket not in left]
        if step[0] == "enter":
            ticket = Ticket(*step[1:])
            if len(waiting) == 12:
                with pytest.raises(Overloaded):
                    room.enter(ticket, now_s)
            else:
                room.enter(ticket, now_s)
                entered.append(ticket)
        elif step[0] == "next":
            ticket = room.next()
            assert (ticket is None) == (not waiting)
            if ticket is not None:
                assert ticket.priority == min(other.priority for other in waiting)
                same = [t for t in waiting if (t.tenant, t.priority) == (ticket.tenant, ticket.priority)]
                assert ticket is same[0]
                left.append(ticket)
        elif step[0] == "cancel" and step[1] < len(entered):
            room.cancel(entered[step[1]])
            if entered[step[1]] not in left:
                left.append(entered[step[1]])
        elif step[0] == "expire":
            gone = room.expire(float(step[1]))
            assert set(map(id, gone)) == {id(t) for t in waiting if t.until_s <= step[1]}
            left += gone
        assert len(room) == len(entered) - len(left)
        for tenant in "abc":
            assert room.waiting_of(tenant) == sum(t.tenant == tenant and t not in left for t in entered)
