"""A worker's open door: fronts come in, are greeted, and have its engine work.

    connection -> [TLS] -> greeting -> work: a Peer of the runner      gone: what it had asked for is aborted
                                    -> files: those of the card
                                    -> refusal: why the front does not use the worker
    drain: every front is told -> all have heard -> nothing is under way

A stranger costs at most a few kilobytes for `GREETING_S`. So many may be greeting at a time; one more takes the place
of whoever has been at it longest, for who means it is done in a moment.
"""

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

import structlog

from tritium.cluster.channel import Channel
from tritium.cluster.frames import (
    Drain,
    DrainHeard,
    Draining,
    FromWorker,
    HoldRole,
    LetRole,
    Load,
    RoleAnswer,
    RoleTaken,
    TakeRole,
    ToWorker,
)
from tritium.cluster.own_role import Holder, OwnRole
from tritium.cluster.plane.address import PlaneAddress
from tritium.cluster.plane.connection import watch_over
from tritium.cluster.plane.files import FileServer
from tritium.cluster.plane.greeting import GREETING_S, Greeted, GreetingLine, Unreachable, receive
from tritium.cluster.plane.refusals import Refusals
from tritium.cluster.plane.security import PlaneSecurity
from tritium.cluster.runner import EngineRunner, Peer
from tritium.core.errors import InvalidArgument

MOST_GREETING = 128
MOST_FRONTS = 256
MOST_BACKLOG_BYTES = 512 << 20
"""A front that leaves so much unread is given up."""

HEARD_S = 2.0
"""How long fronts may take to hear that the worker drains."""

log = structlog.get_logger(__name__)


class Session:
    """One front at work."""

    def __init__(self, listener: "PlaneListener", greeted: Greeted) -> None:
        self.front = greeted.front
        self.holder = Holder(greeted.front)
        self.heard = asyncio.Event()
        self.channel: Channel[ToWorker] = Channel(ToWorker, self._take, self._closed)
        self.peer = Peer(self._send)
        self._listener = listener

    def drop(self, reason: str) -> None:
        """End the connection at once."""
        log.warning("front_dropped", front=self.front, reason=reason)
        self.channel.abort()

    def _send(self, frame: FromWorker) -> None:
        self.channel.send(frame)
        if self.channel.backlog_bytes > MOST_BACKLOG_BYTES:
            self.drop(f"it has left {MOST_BACKLOG_BYTES} bytes unread")

    def _take(self, frame: ToWorker) -> None:
        match frame:
            case Load() | Drain():
                self.drop(f"it sent {type(frame).__name__}, which is not a front's to say")
            case DrainHeard():
                self.heard.set()
            case HoldRole() | TakeRole() | LetRole():
                self._role(frame)
            case _:
                self._listener.runner.take(self.peer, frame)

    def _role(self, frame: HoldRole | TakeRole | LetRole) -> None:
        role = self._listener.role
        match frame:
            case HoldRole(id):
                self._send(RoleAnswer(id, role.hold(self.holder)))
            case TakeRole(id, wanted):
                refusal = role.take(self.holder, wanted)
                self._send(RoleAnswer(id, refusal, restarts=not refusal and role.role is not wanted))
            case LetRole():
                role.let(self.holder)

    def _closed(self, error: Exception | None) -> None:
        self.heard.set()
        self._listener.role.let(self.holder)
        self._listener.ended(self, error)


class PlaneListener:
    """The door of one worker, called `worker` in this `run` of its process."""

    def __init__(
        self, runner: EngineRunner, files: FileServer, security: PlaneSecurity, *, worker: str, run: str, role: OwnRole
    ) -> None:
        self.runner = runner
        self.role = role
        role.on_change.append(self._tell_role)
        self.fronts: set[Session] = set()
        self.refused = 0
        self.refusals = Refusals()
        """Why fronts do not use the worker."""
        self._last_refused = ""
        self._files = files
        self._security = security
        self._worker = worker
        self._run = run
        self._server: asyncio.Server | None = None
        self._greeting: dict[asyncio.Task[None], _Incoming] = {}
        self._draining = False
        self._path = ""

    async def open(self, address: PlaneAddress) -> PlaneAddress:
        """Listen; return the address with the port it got.

        Raises:
            InvalidArgument: it cannot be listened on, or strangers could come in.
        """
        self._security.check_bind(address)
        loop = asyncio.get_running_loop()
        try:
            if address.path:
                if _somebody_listens(Path(address.path)):
                    raise InvalidArgument(f"somebody listens at {address} already")
                # A socket that a killed worker left behind is taken over.
                self._server = await loop.create_unix_server(self._line, address.path)
                self._path = address.path
                os.chmod(address.path, 0o600)  # noqa: PTH101  a call of the system that waits for nothing
                return address
            context = self._security.server_context()
            self._server = await loop.create_server(
                self._line,
                None if address.host == "*" else address.host,
                address.port,
                ssl=context,
                ssl_handshake_timeout=GREETING_S if context else None,
            )
        except OSError as error:
            raise InvalidArgument(f"cannot listen on {address}: {error.strerror or error}") from None
        return address.at(port=self._server.sockets[0].getsockname()[1])

    async def drain(self, grace_s: float) -> None:
        """Have every front send nothing new, and wait, so long at most, until nothing is under way."""
        self._draining = self.role.leaving = True
        for session in self.fronts:
            session.peer.send(Draining())
        hearing = [asyncio.ensure_future(session.heard.wait()) for session in self.fronts]
        if hearing:
            _, deaf = await asyncio.wait(hearing, timeout=HEARD_S)
            for task in deaf:
                task.cancel()
        await self.runner.drain(grace_s)

    async def close(self) -> None:
        """Take nobody in any more, and end every connection."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._greeting):
            task.cancel()
        for session in tuple(self.fronts):
            session.channel.close()
        self._files.close()
        if self._path:
            with suppress(FileNotFoundError):
                os.unlink(self._path)  # noqa: PTH108  as above

    def ended(self, session: Session, error: Exception | None) -> None:
        """Be done with a front that is gone."""
        if session in self.fronts:
            self.fronts.discard(session)
            dropped = len(session.peer.numbers)
            self.runner.leave(session.peer)
            log.info("front_left", front=session.front, aborted=dropped, reason=str(error or "it closed"))

    def _tell_role(self) -> None:
        for session in self.fronts:
            session.peer.send(self._role_now())

    def _role_now(self) -> RoleTaken:
        return RoleTaken(self.role.role, self.role.number)

    def _line(self) -> "_Incoming":
        return _Incoming(self)

    def greet(self, line: "_Incoming", transport: asyncio.BaseTransport) -> None:
        """Greet whoever has connected."""
        if len(self._greeting) >= MOST_GREETING:
            self.refused += 1
            oldest = next(iter(self._greeting))
            self._greeting.pop(oldest).refuse("too many are greeting at once")
            oldest.cancel()
        watch_over(transport)
        task = asyncio.get_running_loop().create_task(self._greet(line))
        self._greeting[task] = line
        task.add_done_callback(lambda done: self._greeting.pop(done, None))

    async def _greet(self, line: "_Incoming") -> None:
        try:
            greeted = await receive(line, self._worker, self._run, self._security.secret)
            if greeted.purpose == "files":
                line.hand_over(self._files.channel())
                return
            if greeted.purpose == "refusal":
                line.hand_over(self.refusals.channel(greeted.front))
                return
            self._take_in(line, greeted)
        except Unreachable as refusal:
            line.refuse(refusal.message)
            if line.silent:
                log.debug("front_said_nothing")
                return
            self.refused += 1
            # Who is refused tries again and again.
            told = log.error if refusal.message != self._last_refused else log.debug
            self._last_refused = refusal.message
            told("front_refused", reason=refusal.message, hint=refusal.hint)

    def _take_in(self, line: "_Incoming", greeted: Greeted) -> None:
        if self._draining:
            raise Unreachable("the worker is draining")
        if len(self.fronts) >= MOST_FRONTS:
            raise Unreachable(f"the worker has {MOST_FRONTS} fronts, the most it takes")
        self.refusals.forget(greeted.front)
        self._last_refused = ""
        session = Session(self, greeted)
        self.fronts.add(session)
        line.hand_over(session.channel)
        session.peer.send(self._role_now())
        self.runner.join(session.peer)
        log.info("front_joined", front=greeted.front)


class _Incoming(GreetingLine):
    """A connection that was taken."""

    def __init__(self, listener: PlaneListener) -> None:
        super().__init__()
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.greet(self, transport)


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
