"""One engine in virtual time: the mocker's scheduler, cache and durations, without a clock of its own.

    submit -> [admit -> transfer] -> plan -> step, or a stride of steps -> tokens -> first, end

Steps that only decode are taken in one stride, as long as nothing but their tokens changes: until a sequence ends or
needs a block, or somebody comes, who then waits for the end of the step in which he came. The times are those of
single steps.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tritium.backends.mocker.durations import Durations, step_load
from tritium.backends.mocker.journal import Block
from tritium.backends.mocker.scheduler import Plan, Scheduler, Sequence
from tritium.backends.mocker.settings import Settings, block_manager
from tritium.backends.mocker.timing import StepLoad
from tritium.simulation.agenda import Agenda


class BlockLog:
    """A journal by names alone: (True: stored, or removed, of which tier, the blocks), in order."""

    def __init__(self) -> None:
        self._told: list[tuple[bool, str, list[int]]] = []

    def take(self) -> list[tuple[bool, str, list[int]]]:
        """Return what has happened since the last call."""
        told, self._told = self._told, []
        return told

    def stored(self, block: Block, tier: str) -> None:
        """Note a block that has entered a tier."""
        self._note(block.hash, tier, stored=True)

    def removed(self, block: Block, tier: str) -> None:
        """Note a block that has left a tier."""
        self._note(block.hash, tier, stored=False)

    def cleared(self) -> None:
        """Nothing clears a simulated cache."""
        raise AssertionError

    def _note(self, name: int, tier: str, *, stored: bool) -> None:
        last = self._told[-1] if self._told else None
        if last is not None and last[0] is stored and last[1] == tier:
            last[2].append(name)
        else:
            self._told.append((stored, tier, [name]))


@dataclass(slots=True, eq=False)
class Work:
    """A sequence given to a worker, and whom to tell of its first token and of its end."""

    sequence: Sequence
    last_length: int
    on_first: Callable[[], None]
    on_end: Callable[[], None]
    begun: bool = False


class SimulatedWorker:
    """An engine of one worker; `on_blocks` hears what its cache did, after each step, before its tokens are told."""

    def __init__(
        self, name: str, settings: Settings, agenda: Agenda, on_blocks: Callable[[str, bool, str, list[int]], None]
    ) -> None:
        self.name = name
        self.busy_s = 0.0
        self.steps = 0
        self.strides = True
        self._journal = BlockLog()
        self.scheduler = Scheduler(block_manager(settings, self._journal), settings.limits)
        self._durations = Durations(settings)
        self._block_tokens = settings.block_tokens
        self._agenda = agenda
        self._on_blocks = on_blocks
        self._live: dict[int, Work] = {}
        self._plan: Plan | None = None
        self._stride = 1
        self._stride_load: StepLoad | None = None
        self._began_s = 0.0
        self._turn = 0
        """Counts the ends of steps that were set, so that one that no longer holds is known."""
        self._waking = False

    def submit(self, work: Work) -> None:
        """Queue a sequence."""
        self._live[work.sequence.id] = work
        self.scheduler.add(work.sequence)
        # Who stands behind others finds no more room than they do.
        if self.scheduler.waiting[0] is work.sequence:
            self._wake()

    def _wake(self) -> None:
        if self._plan is not None:
            self._cut()
        elif not self._waking:
            self._waking = True
            self._agenda.at(self._agenda.now_s, self._begin)

    def _begin(self) -> None:
        self._waking = False
        plan = self.scheduler.plan()
        for admission in plan.admitted:
            if admission.sequence in self.scheduler.arriving:
                tokens = admission.sequence.prompt_tokens - admission.match.blocks * self._block_tokens
                arrives_s = self._agenda.now_s + self._durations.transfer_s(tokens)
                self._agenda.at(arrives_s, self._arrive, admission.sequence)
        if not plan:
            return
        self._plan = plan
        self._began_s = self._agenda.now_s
        self._stride = 1
        self._stride_load = None
        if plan.chunks or not self.strides:
            took_s = self._durations.step_s(plan)
        else:
            live = self._live
            left = min([live[sequence.id].last_length - sequence.length for sequence in plan.decodes])
            self._stride = min(left, self.scheduler.stride())
            self._stride_load = step_load(plan)
            took_s = self._durations.steps_s(self._stride_load, self._stride)
        self._set_end(self._began_s + took_s)

    def _set_end(self, ends_s: float) -> None:
        self._turn += 1
        self._agenda.at(ends_s, self._finish, self._turn)

    def _cut(self) -> None:
        """End a stride with the step that is under way now."""
        load = self._stride_load
        if load is None or self._stride == 1:
            return
        passed_s = self._agenda.now_s - self._began_s
        low, high = 1, self._stride
        while low < high:
            middle = (low + high) // 2
            if self._durations.steps_s(load, middle) < passed_s:
                low = middle + 1
            else:
                high = middle
        if low < self._stride:
            self._stride = low
            self._set_end(self._began_s + self._durations.steps_s(load, low))

    def _finish(self, turn: int) -> None:
        """End the step or the stride: every sequence that it completed gets its tokens."""
        if turn != self._turn:
            return
        plan, self._plan = self._plan, None
        assert plan is not None
        scheduler, live, steps = self.scheduler, self._live, self._stride
        self.busy_s += self._agenda.now_s - self._began_s
        self.steps += steps
        scheduler.decoded(plan.decodes, steps)
        told: list[Callable[[], None]] = []
        for sequence in plan.decodes:
            sequence.length += steps
            if sequence.length == (work := live[sequence.id]).last_length:
                self._end(work, told)
        for chunk in plan.chunks:
            if scheduler.computed(chunk):
                work = live[chunk.sequence.id]
                chunk.sequence.length += 1
                if not work.begun:
                    work.begun = True
                    told.append(work.on_first)
                if chunk.sequence.length == work.last_length:
                    self._end(work, told)
        happened = self._journal.take()
        # Who hears of these tokens and asks again is too late for the step that follows at once.
        self._begin()
        for stored, tier, blocks in happened:
            self._on_blocks(self.name, stored, tier, blocks)
        for tell in told:
            tell()

    def _end(self, work: Work, told: list[Callable[[], None]]) -> None:
        del self._live[work.sequence.id]
        self.scheduler.remove(work.sequence)
        told.append(work.on_end)

    def _arrive(self, sequence: Sequence) -> None:
        if sequence in self.scheduler.arriving:
            self.scheduler.arrived(sequence)
            self._wake()
