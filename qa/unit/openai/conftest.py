import importlib.util
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from tritium.openai.front import openai_handler
from tritium.openai.keys.ring import KeyRing
from tritium.openai.options import OpenAIOptions
from tritium.wire.listener import listen_http


@pytest.fixture(scope="session")
def scripted():
    """The module of scripted language models, beside the tests of `llm`."""
    name = "scripted_language_models"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "llm" / "scripted.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def tokenizer(scripted):
    return scripted.chat_tokenizer()


@dataclass
class Door:
    """A running OpenAI port over a scripted fleet."""

    fleet: object
    model: object
    models: object
    port: int
    client: openai.AsyncOpenAI
    http: httpx.AsyncClient

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def say(self, **script) -> None:
        """Tell the fleet what to answer from now on."""
        for key, value in script.items():
            assert hasattr(self.fleet.script, key)
            setattr(self.fleet.script, key, value)


@pytest.fixture
def open_door(scripted, tokenizer):
    @asynccontextmanager
    async def open_(options=None, defaults=None, keys=(), key_file=None, **fleet):
        made = scripted.ScriptedFleet(fleet.pop("tokenizer", tokenizer), scripted.Script(), **fleet)
        model = scripted.language_model(made, defaults)
        models = scripted.OneModel(model)
        ring = KeyRing(keys, key_file, time.monotonic)
        handler = openai_handler(models, options or OpenAIOptions(), lambda: "fleet_workers 1\n", ring)
        listener = await listen_http(handler, host="127.0.0.1", port=0)
        url = f"http://127.0.0.1:{listener.port}"
        # Reading the certificates of the world's authorities would take longer than the test.
        async with httpx.AsyncClient(base_url=url, timeout=60, verify=False) as http:
            client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http)
            yield Door(made, model, models, listener.port, client, http)
        await listener.close(1)

    return open_


@pytest.fixture
async def door(open_door):
    async with open_door() as opened:
        yield opened
