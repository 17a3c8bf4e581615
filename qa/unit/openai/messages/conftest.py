from dataclasses import dataclass

import anthropic
import pytest


@dataclass
class Clients:
    """Anthropic's own clients, talking to a door."""

    door: object

    @property
    def aio(self) -> anthropic.AsyncAnthropic:
        # Reading the certificates of the world's authorities would take longer than the test.
        http = anthropic.DefaultAsyncHttpxClient(verify=False)
        return anthropic.AsyncAnthropic(base_url=self.door.url, api_key="none", max_retries=0, http_client=http)

    def sync(self) -> anthropic.Anthropic:
        http = anthropic.DefaultHttpxClient(verify=False)
        return anthropic.Anthropic(base_url=self.door.url, api_key="none", max_retries=0, http_client=http)


@pytest.fixture
def clients(door):
    return Clients(door)
