"""The ports that clouds ask of a container, as the settings and the clouds' own variables describe them."""

import os
from collections.abc import Callable
from dataclasses import replace

from tritium.cli import http_port
from tritium.cli.options import ServeOptions, SettingsError
from tritium.core.catalog import Catalog, Repositories
from tritium.core.serving import ServerState
from tritium.http import sagemaker, vertex_ai
from tritium.http.marking import SAGEMAKER, VERTEX_AI
from tritium.wire.listener import Listener, listen_http


async def open_sagemaker(options: ServeOptions, server: ServerState, repositories: Repositories) -> Listener:
    """Listen for Amazon SageMaker.

    Raises:
        SettingsError: a variable of SageMaker's cannot be used.
        ListenError: the port cannot be used.
    """
    try:
        settings = sagemaker.read(os.environ)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    front = replace(http_port.front(options, server), forwarded=None, marking=SAGEMAKER)
    return await listen_http(
        sagemaker.handler(front, settings, repositories),
        host=options.sagemaker_host or options.host,
        port=options.sagemaker_port,
        limits=http_port.limits(options),
    )


def missing_model(options: ServeOptions, catalog: Catalog) -> str:
    """Say, once models are loaded, why Vertex AI's predictions have no model; nothing where they have one."""
    if not options.vertex_ai:
        return ""
    ready = {entry.name for entry in catalog.index(ready_only=True)}
    if not options.vertex_ai_model and len(ready) != 1:
        return "Expect the model repository contains only a single model if default model is not specified"
    if options.vertex_ai_model and options.vertex_ai_model not in ready:
        return f"Expect the default model '{options.vertex_ai_model}' is loaded"
    return ""


async def open_vertex_ai(options: ServeOptions, server: ServerState, metrics: Callable[[], str]) -> Listener:
    """Listen for Google Vertex AI.

    Raises:
        SettingsError: a variable of Vertex AI's is missing.
        ListenError: the port cannot be used.
    """
    try:
        settings = vertex_ai.read(os.environ, options.vertex_ai_model)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    front = replace(http_port.front(options, server), forwarded=None, marking=VERTEX_AI)
    return await listen_http(
        vertex_ai.handler(front, settings, metrics),
        host=options.vertex_ai_host or options.host,
        port=options.vertex_ai_port,
        limits=http_port.limits(options),
    )
