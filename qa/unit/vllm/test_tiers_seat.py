"""Seats: whose folder is whose, without names."""

import pytest

from tritium.backends.vllm.tiers.seat import take_seat
from tritium.core.errors import InvalidArgument


def test_workers_of_one_machine_sit_apart_and_find_their_seats_again(tmp_path):
    """Each takes the seat of its number, or the lowest that is free; one that left is free for the next."""
    first, second, third = (take_seat([tmp_path], "m", 0, number) for number in (0, 1, 0))
    assert [seat.name for seat in (first, second, third)] == [f"m/seat_{n}/rank_0" for n in (0, 1, 2)]
    first.close()
    again = take_seat([tmp_path], "m", 0, 1)
    assert again.name == "m/seat_0/rank_0"
    for seat in (second, third, again):
        seat.close()


def test_ranks_and_models_do_not_take_each_others_seats(tmp_path):
    """A seat is of one rank of one model."""
    taken = [take_seat([tmp_path], scope, rank, 0) for scope in ("m", "n") for rank in (0, 1)]
    assert len({seat.name for seat in taken}) == 4
    assert all("/seat_0/" in seat.name for seat in taken)
    for seat in taken:
        seat.close()


def test_a_directory_that_cannot_be_is_refused(tmp_path):
    """The words say which."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgument, match="file/m/seat_0"):
        take_seat([tmp_path / "file"], "m", 0, 0)
