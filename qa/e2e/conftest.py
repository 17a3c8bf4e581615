"""Servers for the tests of the whole product; one that serves the sample repository is shared by a module."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qa.e2e.product import ROOT, Product


@pytest.fixture(scope="module")
def sample() -> Iterator[Product]:
    """Serve model_repository/ on the embedded engine."""
    product = Product([str(ROOT / "model_repository"), "--engine=embedded"])
    assert product.process.poll() is None, product.output
    yield product
    assert product.stop() == 0, product.output


@pytest.fixture
def start() -> Iterator[Callable[..., Product]]:
    """Start servers that are ended with the test, however it ends."""
    started: list[Product] = []

    def one(*arguments: str, **options: Any) -> Product:
        started.append(Product(arguments, **options))
        return started[-1]

    yield one
    for product in started:
        product.kill()
