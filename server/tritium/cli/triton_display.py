"""The start and the end of a server in tritonserver's sentences and tables, through the log.

What start scripts wait for ("Started GRPCInferenceService at") and what people grep for ("successfully loaded") is
there to the letter. Source: core/src/server.cc, tritonserver.cc and model_lifecycle.cc of Triton, 2.73.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version

import structlog

from tritium.cli import triton_tables
from tritium.cli.options import ServeOptions
from tritium.cli.screen import Endpoint, Row
from tritium.observe.log_lines import TABLE

_STARTED = {
    "gRPC": "Started GRPCInferenceService at",
    "HTTP": "Started HTTPService at",
    "metrics": "Started Metrics Service at",
    "SageMaker": "Started Sagemaker HTTPService at",
    "Vertex AI": "Started Vertex AI HTTPService at",
    "OpenAI": "Started OpenAI Service at",
}


class TritonDisplay:
    """Tells what happens as tritonserver does."""

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._log = structlog.get_logger("tritium")
        self._loading: dict[str, set[str]] = {}
        self._log.info(f"tritium {version('tritium')} serves {', '.join(options.repositories) or 'no repository'}")

    def loading(self, model: str, version: str) -> None:
        """Log that a version has begun to load."""
        self._loading.setdefault(model, set()).add(version)
        self._log.info(f"loading: {model}:{version}")

    def loaded(self, row: Row) -> None:
        """Log that a model is ready, once all its versions are, or why a version is not."""
        versions = self._loading.setdefault(row.model, set())
        versions.discard(row.version)
        if row.state != "READY":
            of_version = f" version {row.version}" if row.version else ""
            self._log.error(f"failed to load '{row.model}'{of_version}: {row.reason}")
            if not versions:
                self._log.info(f"failed to load '{row.model}'")
        elif not versions:
            self._log.info(f"successfully loaded '{row.model}'")

    def unloaded(self, model: str, version: str) -> None:
        """Log that a version has ended."""
        self._log.info(f"successfully unloaded '{model}' version {version}")

    def tick(self) -> None:
        """Do nothing: tritonserver waits in silence."""

    def ready(self, rows: Sequence[Row], endpoints: Sequence[Endpoint]) -> None:
        """Log the tables and where the protocols are served."""
        tables = (
            triton_tables.agents(rows),
            triton_tables.backends(rows, self._options),
            triton_tables.models(rows),
            triton_tables.settings(self._options),
        )
        for table in tables:
            self._log.info("table", **{TABLE: table})
        for protocol, sentence in _STARTED.items():
            for endpoint in endpoints:
                if endpoint.protocol == protocol:
                    self._log.info(f"{sentence} {endpoint.address}")

    def draining(self, within_s: float) -> None:
        """Log that the server ends."""
        self._log.info("Waiting for in-flight requests to complete.")
        self._log.info(f"Timeout {within_s:.0f}: waiting for models to finish what they have")

    def say(self, text: str) -> None:
        """Write a sentence to standard error, beside the log."""
        sys.stderr.write(text.rstrip("\n") + "\n")
        sys.stderr.flush()
