"""The models that a server finds: as workers announce them they are laid out, loaded, and unloaded when all are gone.

found -> files of the card fetched -> model folder -> registry loads it: a fleet of those workers
vanished -> nobody again within `FORGET_S` -> registry unloads it

A front keeps nothing that another could not find out as well: of several, any may end at any time.
"""

import asyncio
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from tritium.cli.cluster_settings import discovery_of, events_of, security_of
from tritium.cli.options import ServeOptions, SettingsError
from tritium.cli.scratch import Scratch
from tritium.cluster.card import CardFile, Instance
from tritium.cluster.events.place import LOCAL
from tritium.cluster.events.subscriber import EventSubscriber
from tritium.cluster.fleet import Fleet
from tritium.cluster.joined import join_fleet
from tritium.cluster.plane.address import parse_address
from tritium.cluster.plane.connection import connect
from tritium.cluster.plane.files import FileFetcher
from tritium.cluster.roll import FoundModel, Roll
from tritium.cluster.spec import parse_fleet
from tritium.core.errors import InferenceError, NotFound, Unavailable
from tritium.llm.card_files import CardCache, check_card, default_cache
from tritium.repository.registry import Registry

FORGET_S = 30.0
"""How long a model without any worker is kept: a replacement may be on its way."""

FETCH_S = 60.0
"""How long one file of a card may take to come."""

FIRST_AGAIN_S = 0.5
LONGEST_AGAIN_S = 15.0

SETTLE_S = 20.0
"""How long a start may wait for discovery, and for the models that are there already."""

log = structlog.get_logger("tritium")


class FoundModels:
    """What a server has of discovery."""

    def __init__(self, options: ServeOptions, name: str) -> None:
        """Make it; nothing is looked for before `start`.

        Raises:
            SettingsError: discovery or what protects the cluster cannot be used.
        """
        self._scratch = Scratch("front")
        self.home = self._scratch.folder / "models"
        """The repository of what is found; there from `start` to `close`."""
        self._security = security_of(options)
        self._discovery = discovery_of(options)
        place = events_of(options)
        self._events = EventSubscriber(place, options.namespace or ("default",), name) if place is not None else None
        self._name = name
        self._cache = CardCache(Path(options.card_cache) if options.card_cache else default_cache())
        self._roll = Roll(
            self._discovery,
            options.namespace or ("default",),
            self._security,
            front=name,
            on_found=self._found,
            on_vanished=self._vanished,
        )
        self._registry: Registry | None = None
        self._taken: Callable[[str], bool] = lambda _: False
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._retiring: dict[str, asyncio.Task[None]] = {}
        self._laid_out: set[str] = set()
        """What has a folder in `home`. Any other name is not ours to remove: a card may say "../../etc"."""

    def start(self, registry: Registry, taken: Callable[[str], bool]) -> None:
        """Serve what is found through a registry; `taken` tells of models that it has by itself."""
        self._registry = registry
        self._taken = taken
        self._scratch.open()
        self.home.mkdir()
        if self._events is not None:
            self._events.start()
        self._roll.start()

    async def settle(self) -> None:
        """Wait until discovery was asked, and the models that are there have been loaded; not for ever."""
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._roll.seen.wait()
                if self._serving:
                    await asyncio.wait(self._serving.values())
                while not all(members.met for members in self._roll.all_members()):  # noqa: ASYNC110  at a start alone
                    await asyncio.sleep(0.02)
        except TimeoutError:
            log.warning("discovery_unsettled", seconds=SETTLE_S, asked=self._roll.seen.is_set())

    async def close(self) -> None:
        """Look for nothing any more."""
        tasks = [*self._serving.values(), *self._retiring.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._discovery.close()
        if self._events is not None:
            await self._events.close()
        await asyncio.to_thread(self._scratch.close)

    async def join(
        self,
        fleet: str,
        *,
        name: str,
        engine: str,  # noqa: ARG002  the signature is that of `llm.loader.StartFleet`
        folder: Path,  # noqa: ARG002
        arguments: Mapping[str, Any],  # noqa: ARG002
    ) -> Fleet:
        """Return the fleet of a model that was found; a `llm.loader.StartFleet`.

        Raises:
            NotFound: everybody who served it has gone meanwhile.
        """
        if not self._roll.instances(name):
            raise NotFound(f"nobody serves model '{name}' any more")
        return join_fleet(parse_fleet(fleet), self._roll.members(name), events=self._events)

    def metrics(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """Return how it stands with discovery."""
        status = self._discovery.status
        yield "tritium_discovery_connected", {}, float(status.connected)
        if status.heard_s:
            yield "tritium_discovery_age_seconds", {}, time.monotonic() - status.heard_s
        yield "tritium_discovery_reconnects_total", {}, status.reconnects
        yield "tritium_discovery_unreadable_total", {}, status.unreadable
        if self._events is not None:
            yield from self._events.metrics()

    def _found(self, model: FoundModel) -> None:
        name = model.card.model
        retiring = self._retiring.get(name)
        self._spawn(self._serving, name, self._serve(model, retiring))

    def _vanished(self, name: str) -> None:
        if name not in self._retiring:
            self._spawn(self._retiring, name, self._retire(name))

    async def _serve(self, model: FoundModel, retiring: asyncio.Task[None] | None) -> None:
        """Load a model; what fails is tried again as long as somebody serves it."""
        name = model.card.model
        assert self._registry is not None
        if retiring is not None:
            await asyncio.wait([retiring])
        if await asyncio.to_thread(self._taken, name):
            log.error("model_found_twice", model=name, reason="a repository of this server has a model of that name")
            return
        try:
            check_card(model.card)
        except InferenceError as error:
            log.error("model_refused", model=name, reason=error.message)  # noqa: TRY400  what went wrong is in it
            return
        self._laid_out.add(name)
        again_s, trouble = FIRST_AGAIN_S, ""
        while instances := self._roll.instances(name):
            try:
                await self._fetch(model, [one for one in instances if one.card.checksum == model.card.checksum])
                await asyncio.to_thread(self._cache.lay_out, model.card, self.home)
                await self._registry.adopt(self.home, name)
            except (InferenceError, OSError) as error:
                said = error.told if isinstance(error, InferenceError) else str(error)
                if said != trouble:
                    log.error("model_not_loaded", model=name, reason=said)  # noqa: TRY400  as above
                trouble = said
                await asyncio.sleep(again_s)
                again_s = min(again_s * 2, LONGEST_AGAIN_S)
            else:
                log.info("model_found", model=name, namespace=model.namespace, workers=len(instances))
                return

    async def _fetch(self, model: FoundModel, instances: list[Instance]) -> None:
        """Bring the files of a card into the cache, from any of those who have them.

        Raises:
            Unavailable: nobody gives them.
        """
        missing = await asyncio.to_thread(self._cache.missing, model.card)
        trouble = Unavailable("nobody serves the model as it was found")
        for instance in instances if missing else ():
            try:
                await self._fetch_from(instance, missing)
            except Unavailable as error:
                trouble = error
            else:
                return
        if missing:
            raise trouble

    async def _fetch_from(self, instance: Instance, missing: Sequence[CardFile]) -> None:
        fetcher = FileFetcher()
        address = parse_address(instance.address)
        await connect(address, self._security, "files", self._name, lambda _: fetcher.channel)
        try:
            for file in missing:
                data = await fetcher.fetch(file.sha256, file.size_bytes, FETCH_S)
                await asyncio.to_thread(self._cache.keep, file, data)
        finally:
            fetcher.channel.close()

    async def _retire(self, name: str) -> None:
        """Unload a model that nobody serves any more, or nobody as it was found."""
        assert self._registry is not None
        ends_s = time.monotonic() + FORGET_S
        members = self._roll.members(name)
        while not self._roll.instances(name) and (members.connected or time.monotonic() < ends_s):  # noqa: ASYNC110  looks
            await asyncio.sleep(1.0)
        if self._roll.instances(name) and not members.stranded:
            return
        if (serving := self._serving.get(name)) is not None:
            serving.cancel()
            await asyncio.wait([serving])
        log.info("model_forgotten", model=name)
        if name in self._laid_out:
            await self._registry.drop(name)
            await asyncio.to_thread(shutil.rmtree, self.home / name, ignore_errors=True)
            self._laid_out.discard(name)
        self._roll.forget(name)

    def _spawn(self, tasks: dict[str, asyncio.Task[None]], name: str, work: Coroutine[Any, Any, None]) -> None:
        task = tasks[name] = asyncio.get_running_loop().create_task(work)

        def ended(task: asyncio.Task[None]) -> None:
            if tasks.get(name) is task:
                del tasks[name]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("model_lost_track_of", model=name, exc_info=error)

        task.add_done_callback(ended)


def check_role(options: ServeOptions) -> None:
    """Refuse a front that could serve nothing, or is to serve what a front does not.

    Raises:
        SettingsError: it is to have repositories, or is told of no discovery.
    """
    if options.events not in ("", LOCAL) and not options.discovery:
        raise SettingsError(
            "events are told by NATS of workers that are found, and there is no discovery\n"
            "  hint: --discovery etcd://HOST:2379, or leave --events out"
        )
    if options.role != "front":
        return
    if options.repositories:
        raise SettingsError("a front has no repositories\n  hint: leave --role front out to serve these models as well")
    if not options.discovery:
        raise SettingsError(
            "a front must know where workers announce themselves\n"
            "  hint: --discovery etcd://HOST:2379, or file:/FOLDER on one machine"
        )
