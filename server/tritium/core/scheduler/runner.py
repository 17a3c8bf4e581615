"""The shell around a plan: keeps every idle instance busy, rings at deadlines, and drains.

One task stands behind each execution an instance may hold at a time (its depth), so a request costs no task of
its own: a waiting task is woken, asks the plan, and executes what it is given until there is nothing left.

    submit -> plan.add -> wake one task -> plan.take -> instance.execute -> owner.executed

An instance that can `begin` needs no tasks: its executions start where a request arrives, or where one ends.

    submit -> plan.add -> plan.take -> instance.begin ... done -> owner.executed -> plan.take -> instance.begin

Under a rate limiter an instance asks the plan only while it holds its resources: it stages, is started, and releases.
Instances may be admitted and dismissed while requests run; one that is dismissed goes on only with what is tied to it.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import count, zip_longest
from typing import Final, Protocol

from tritium.core.clock import Alarm, Clock
from tritium.core.errors import InferenceError, ModelFailed, Unavailable
from tritium.core.instance import ExecutionTimes, Instance, Job, PromptInstance
from tritium.core.scheduler.limiter import Ticket
from tritium.core.scheduler.plan import Cut, Plan

RECOVERY_S: Final = 30.0
"""How long queued requests wait for the restart of a lost instance before they are failed."""


class Owner(Protocol):
    """Who is told what became of jobs."""

    def starting(self, cut: Cut, now_ns: int) -> None:
        """Take note that a batch leaves the queue."""
        ...

    def executed(self, cut: Cut, times: ExecutionTimes | None) -> None:
        """Take note that an execution has returned."""
        ...

    def refuse(self, job: Job, error: InferenceError) -> None:
        """Answer a job that left the queue without running."""
        ...


class _Lane:
    """One instance, the executions it holds, and its tasks that wait for work, where it has tasks."""

    __slots__ = ("depth", "index", "instance", "left", "prompt", "running", "sleeping", "ticket", "woken")

    def __init__(self, index: int, instance: Instance, depth: int, ticket: Ticket | None) -> None:
        self.index = index
        self.instance = instance
        self.depth = depth
        self.ticket = ticket
        self.prompt = instance if isinstance(instance, PromptInstance) else None
        self.running = 0
        self.sleeping: list[asyncio.Future[None]] = []
        self.woken = False
        """Whether a prompt instance is being given work, or will be at the end of the turn."""
        self.left: asyncio.Future[None] | None = None
        """Done when nothing runs in the instance, or is tied to it, any more; None while it stays."""

    @property
    def idle(self) -> bool:
        """Tell whether the instance may be woken for one execution more."""
        return bool(self.sleeping) if self.prompt is None else not self.woken and self.running < self.depth


class Runner:
    """Runs the jobs of one plan on the instances of one model; made on the event loop it works on.

    `tickets` are the instances' places in the rate limiter, where there is one.
    """

    def __init__(
        self,
        plan: Plan,
        instances: Sequence[Instance],
        owner: Owner,
        clock: Clock,
        *,
        pipelined: bool,
        tickets: Sequence[Ticket] = (),
    ) -> None:
        self._plan = plan
        self._owner = owner
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._limited = bool(tickets)
        self._pipelined = pipelined and not self._limited
        self._lanes: list[_Lane] = []
        self._leaving: list[_Lane] = []
        self._indices = count()
        self._alarm: Alarm | None = None
        self._alarm_ns = 0
        self._running = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._recovery: asyncio.TimerHandle | None = None
        self._tasks: dict[asyncio.Task[None], _Lane] = {}
        for instance, ticket in zip_longest(instances, tickets):
            self._enter(instance, ticket)

    def add(self, job: Job, now_ns: int) -> None:
        """Queue a job and see to it that it runs.

        Raises:
            InferenceError: the plan refused it.
        """
        self._plan.add(job, now_ns)
        if not self._wake():
            self._set_alarm(now_ns)

    def admit(self, instance: Instance, ticket: Ticket | None = None) -> None:
        """Give an instance more a share of the work."""
        self._plan.open_lane(self._enter(instance, ticket).index, self._clock.now_ns())
        self._deepen()
        self._wake_all()

    async def dismiss(self, instance: Instance) -> None:
        """Give an instance nothing new; return when what it runs, and what is tied to it, has ended."""
        lane = next(lane for lane in self._lanes if lane.instance is instance)
        lane.left = self._loop.create_future()
        self._leaving.append(lane)
        self._plan.close_lane(lane.index)
        self._settle()
        self._deepen()
        await lane.left

    def health_changed(self) -> None:
        """Go on with instances that have recovered; give queued requests up if none does in time."""
        if any(lane.instance.healthy for lane in self._lanes):
            if self._recovery is not None:
                self._recovery.cancel()
                self._recovery = None
            self._wake_all()
        elif self._recovery is None:
            self._recovery = self._loop.call_later(RECOVERY_S, self._give_up)

    async def drain(self) -> None:
        """Wait until every queued job has run, then end the tasks; the instances are the caller's to close."""
        self._closing = True
        if not any(lane.instance.healthy for lane in self._lanes):
            self._give_up()
        while self._running or len(self._plan):
            self._idle.clear()
            await self._idle.wait()
        for timer in (self._alarm, self._recovery):
            if timer is not None:
                timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for lane in self._leaving:
            self._part(lane)

    def _enter(self, instance: Instance, ticket: Ticket | None) -> _Lane:
        depth = max(1, instance.depth) if self._pipelined else 1
        lane = _Lane(next(self._indices), instance, depth, ticket)
        self._lanes.append(lane)
        if ticket is not None:
            ticket.wanted = partial(self._wanted, lane)
            ticket.start = partial(self._rouse, lane)
        for _ in range(depth if lane.prompt is None else 0):
            self._start(lane)
        return lane

    def _deepen(self) -> None:
        """Ask instances that begin by themselves again how much each holds, which may depend on who is beside it."""
        for lane in self._lanes:
            if lane.prompt is not None and self._pipelined:
                lane.depth = max(1, lane.instance.depth)

    def _settle(self) -> None:
        """Let those leave that have nothing to do any more."""
        for lane in [lane for lane in self._leaving if not lane.running and not self._plan.bound(lane.index)]:
            self._leaving.remove(lane)
            self._lanes.remove(lane)
            for task in [task for task, of in self._tasks.items() if of is lane]:
                task.cancel()
            self._part(lane)

    @staticmethod
    def _part(lane: _Lane) -> None:
        if lane.left is not None and not lane.left.done():
            lane.left.set_result(None)

    def _start(self, lane: _Lane) -> None:
        task = self._loop.create_task(self._work(lane), name=f"run {lane.instance.name}")
        self._tasks[task] = lane
        task.add_done_callback(lambda ended: self._replace(lane, ended))

    def _replace(self, lane: _Lane, ended: asyncio.Task[None]) -> None:
        """Report what ended a task, and start another: a reply that raises must not stop the model."""
        self._tasks.pop(ended, None)
        if ended.cancelled() or (error := ended.exception()) is None:
            return
        self._report(lane.instance, error)
        self._start(lane)

    async def _work(self, lane: _Lane) -> None:
        plan, owner, clock, instance, ticket = self._plan, self._owner, self._clock, lane.instance, lane.ticket
        while True:
            now_ns = clock.now_ns()
            may_run = instance.healthy and (ticket is None or self._may_run(lane, ticket))
            cut = plan.take(now_ns, lane.index) if may_run and (lane.left is None or self._stays(lane)) else None
            self._drop(now_ns)
            if cut is None:
                if ticket is not None:
                    ticket.release(ran=False)
                self._set_alarm(now_ns)
                if self._closing:
                    self._idle.set()
                waiter = self._loop.create_future()
                lane.sleeping.append(waiter)
                await waiter
                continue
            owner.starting(cut, now_ns)
            lane.running += 1
            self._running += 1
            if len(plan) and not self._wake():
                self._set_alarm(now_ns)
            try:
                times = await self._execute(instance, cut)
            finally:
                lane.running -= 1
                self._running -= 1
                if ticket is not None:
                    ticket.release(ran=True)
            plan.finished(cut, clock.now_ns())
            owner.executed(cut, times)
            if self._leaving:
                self._settle()

    def _feed(self, lane: _Lane, instance: PromptInstance) -> None:
        """Begin what a prompt instance can be given now, and look after what else waits."""
        lane.woken = True
        try:
            self._begin(lane, instance)
        except Exception as error:  # noqa: BLE001 - a reply that raises must not stop the model
            self._report(instance, error)
            self._loop.call_soon(self._feed, lane, instance)
            return
        lane.woken = False
        if self._closing:
            self._idle.set()

    def _begin(self, lane: _Lane, instance: PromptInstance) -> None:
        plan, ticket, now_ns = self._plan, lane.ticket, self._clock.now_ns()
        while True:
            may_run = instance.healthy and (ticket is None or self._may_run(lane, ticket))
            cut = plan.take(now_ns, lane.index) if may_run and (lane.left is None or self._stays(lane)) else None
            self._drop(now_ns)
            if cut is None:
                if ticket is not None:
                    ticket.release(ran=False)
                self._set_alarm(now_ns)
                return
            self._owner.starting(cut, now_ns)
            lane.running += 1
            self._running += 1
            instance.begin(cut.batch, partial(self._ended, lane, instance, cut))
            if lane.running >= lane.depth or not plan.waiting(lane.index):
                break
        if len(plan) and not self._wake():
            self._set_alarm(now_ns)

    def _ended(self, lane: _Lane, instance: PromptInstance, cut: Cut, times: ExecutionTimes | None) -> None:
        """Count an execution, and go on with the next; one that ends within `begin` leaves that to `_begin`."""
        lane.running -= 1
        self._running -= 1
        self._plan.finished(cut, self._clock.now_ns())
        if lane.ticket is not None:
            lane.ticket.release(ran=True)
        try:
            self._owner.executed(cut, times)
        except Exception as error:  # noqa: BLE001 - likewise
            self._report(instance, error)
        if not lane.woken and (self._closing or len(self._plan)):
            self._feed(lane, instance)
        if self._leaving:
            self._settle()

    def _report(self, instance: Instance, error: BaseException) -> None:
        message = f"an answer of {instance.name} could not be delivered"
        self._loop.call_exception_handler({"message": message, "exception": error})

    async def _execute(self, instance: Instance, cut: Cut) -> ExecutionTimes | None:
        """Run one batch; what an instance raises against its contract becomes the answer of its jobs."""
        try:
            return await instance.execute(cut.batch)
        except InferenceError as error:
            failure = error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            failure = ModelFailed("the execution was cancelled by its backend")
        except Exception as error:  # noqa: BLE001 - a backend of somebody else's must not end this task
            failure = ModelFailed(f"{type(error).__name__}: {error}")
        for job in cut.jobs:
            job.reply.send(failure, final=True)
        return None

    def _wake(self) -> bool:
        """Wake a task of the least busy instance that has something to do; tell whether there was one."""
        if self._limited:
            return self._stage()
        best: _Lane | None = None
        for lane in self._lanes:
            if (
                lane.idle
                and (best is None or lane.running < best.running)
                and self._plan.waiting(lane.index)
                and lane.instance.healthy
                and self._stays(lane)
            ):
                best = lane
        if best is None:
            return False
        if best.prompt is None:
            best.sleeping.pop().set_result(None)
        elif self._pipelined:
            self._feed(best, best.prompt)
        else:
            # Once the turn is over, for what else arrives in it belongs to the same batch.
            best.woken = True
            self._loop.call_soon(self._feed, best, best.prompt)
        return True

    def _stage(self) -> bool:
        """Let every idle instance that has something to do stand in line; tell whether one may run right away."""
        started = False
        for lane in self._lanes:
            if lane.ticket is not None and lane.idle and self._wanted(lane):
                started |= lane.ticket.stage()
        return started

    def _may_run(self, lane: _Lane, ticket: Ticket) -> bool:
        return ticket.held or (self._wanted(lane) and ticket.stage())

    def _wanted(self, lane: _Lane) -> bool:
        return self._plan.waiting(lane.index) > 0 and lane.instance.healthy and self._stays(lane)

    def _stays(self, lane: _Lane) -> bool:
        """Tell whether an instance may be given work: one that is leaving only what is tied to it."""
        return lane.left is None or self._plan.bound(lane.index)

    def _rouse(self, lane: _Lane) -> None:
        """Go on with an instance that has been given its resources; one that asks for them now goes on by itself."""
        if lane.prompt is None:
            if lane.sleeping:
                lane.sleeping.pop().set_result(None)
        elif not lane.woken:
            lane.woken = True
            self._loop.call_soon(self._feed, lane, lane.prompt)

    def _wake_all(self) -> bool:
        """Wake a task for every instance that has something to do; tell whether there was one."""
        woken = False
        for _ in self._lanes:
            if not self._wake():
                break
            woken = True
        return woken

    def _drop(self, now_ns: int) -> None:
        for dropped in self._plan.dropped(now_ns):
            self._owner.refuse(dropped.job, dropped.error)
        if self._leaving:
            self._loop.call_soon(self._settle)

    def _set_alarm(self, now_ns: int) -> None:
        """Ring when the plan has something to say next; what is due already, idle instances have been told."""
        when_ns = self._plan.wake_ns()
        if 0 < when_ns <= now_ns:  # it may be the deadline of a job that has left in time
            self._drop(now_ns)
            when_ns = self._plan.wake_ns()
        if when_ns <= now_ns or (self._alarm is not None and self._alarm_ns <= when_ns):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_ns = when_ns
        self._alarm = self._clock.call_at(when_ns, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        now_ns = self._clock.now_ns()
        self._drop(now_ns)
        if not self._wake_all():
            self._set_alarm(now_ns)
        if self._closing:
            self._idle.set()

    def _give_up(self) -> None:
        self._recovery = None
        for job in self._plan.clear():
            self._owner.refuse(job, Unavailable("no instance of the model came back to run the request"))
        self._idle.set()
