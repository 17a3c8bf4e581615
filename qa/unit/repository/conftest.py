"""A repository to write models into, and loaders and models that run without any backend."""

import asyncio

import pytest

from tritium.core.errors import Internal, InvalidArgument
from tritium.core.model import Model
from tritium.core.request import InferResponse
from tritium.core.statistics import Statistics
from tritium.core.tensor import Tensor
from tritium.repository.registry import Registry
from tritium.repository.settings import RegistrySettings

ADD = "input { name: 'x' data_type: TYPE_FP32 dims: [ 1 ] }\noutput { name: 'y' data_type: TYPE_FP32 dims: [ 1 ] }\n"


class FakeModel(Model):
    """A model that answers when it is let: at once, or when `gate` opens. Closing waits for what it has taken."""

    def __init__(self, source, gate):
        self.name, self.version, self.config = source.config.name, source.version, source.config
        self.statistics = Statistics()
        self.content = (source.version_folder / "model.fake").read_text()
        self.healthy, self.closed = True, False
        self._gate = gate
        self._running = set()

    @property
    def ready(self):
        return self.healthy and not self.closed

    def submit(self, request, reply):
        if self.closed:
            reply.send(Internal("submitted to a closed model"), final=True)
            return
        task = asyncio.get_running_loop().create_task(self._answer(request, reply))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, request, reply):
        await self._gate.wait()
        output = Tensor("y", "FP32", (1,), bytes(request.inputs[0].data))
        reply.send(InferResponse(self.name, self.version, request.id, [output]), final=True)

    async def close(self):
        if self._running:
            await asyncio.wait(self._running)
        self.closed = True


class FakeLoader:
    """Loads a model whose file does not say `broken`; `hold` makes loads wait; remembers everything it made."""

    def __init__(self):
        self.loaded, self.loading, self.most_at_once = [], 0, 0
        self.hold, self.gate, self.begun = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.four = asyncio.Event()
        self.hold.set()
        self.gate.set()

    async def complete(self, config, folder, version):
        return config

    async def load(self, source):
        self.loading += 1
        self.most_at_once = max(self.most_at_once, self.loading)
        self.begun.set()
        if self.loading == 4:
            self.four.set()
        try:
            await self.hold.wait()
            content = (source.version_folder / "model.fake").read_text()
            if content == "broken":
                raise InvalidArgument("the model is broken")
            if content == "bug":
                raise ZeroDivisionError("division by zero")
            self.loaded.append(FakeModel(source, self.gate))
            return self.loaded[-1]
        finally:
            self.loading -= 1


class House:
    """One repository folder, and registries of it."""

    def __init__(self, path):
        self.path = path
        self.loader = FakeLoader()
        self.events = []
        self._registries = []

    def write(self, name, text=ADD, versions=("1",), content="one", backend="fake"):
        folder = self.path / name
        for version in versions:
            (folder / version).mkdir(parents=True, exist_ok=True)
            (folder / version / "model.fake").write_text(content)
        folder.mkdir(exist_ok=True)
        config = f"backend: '{backend}'\n{text}" if backend else text
        (folder / "config.pbtxt").write_text(config)
        return folder

    def write_ensemble(self, name, *members):
        """Write an ensemble that passes one tensor through its members in turn."""
        text = "platform: 'ensemble'\n" + ADD + "ensemble_scheduling {\n"
        for index, member in enumerate(members):
            came = "x" if index == 0 else f"t{index}"
            goes = "y" if index == len(members) - 1 else f"t{index + 1}"
            text += (
                f"step {{ model_name: '{member}' model_version: -1 input_map {{ key: 'x' value: '{came}' }} "
                f"output_map {{ key: 'y' value: '{goes}' }} }}\n"
            )
        return self.write(name, text + "}\n", versions=(), backend="")

    def registry(self, mode="none", **settings):
        settings = RegistrySettings(**{"repositories": (self.path,), "control": mode, **settings})
        made = Registry(settings, {"fake": self.loader}, self.events.append)
        self._registries.append(made)
        return made

    async def close(self):
        self.loader.hold.set()
        self.loader.gate.set()
        for registry in self._registries:
            await asyncio.wait_for(registry.close(), 60)


@pytest.fixture
async def house(tmp_path):
    made = House(tmp_path / "repository")
    made.path.mkdir()
    yield made
    await made.close()


@pytest.fixture
def index_of():
    """Show a repository index as {name: {version: (state, reason)}}."""

    def show(registry, **options):
        shown = {}
        for entry in registry.index(**options):
            versions = shown.setdefault(entry.name, {})
            if entry.state is not None:
                versions[entry.version] = (str(entry.state), entry.reason)
        return shown

    return show
