"""What the options of a worker that fronts find say, once it is known to make sense."""

import os
import socket
from pathlib import Path

from tritium.cli.cluster_settings import discovery_of, events_of, security_of
from tritium.cli.options import SettingsError
from tritium.cli.worker_model import WorkerModel, find_worker_model
from tritium.cli.worker_options import WorkerOptions
from tritium.cluster.discovery.contract import Discovery
from tritium.cluster.plane.address import PlaneAddress, parse_address
from tritium.cluster.plane.security import PlaneSecurity
from tritium.core.errors import InferenceError


class WorkerSettings:
    """Discovery, model, address and name of one worker."""

    def __init__(self, options: WorkerOptions, scratch: Path) -> None:
        """Read everything that can be wrong.

        Raises:
            SettingsError: something is.
        """
        self.security: PlaneSecurity = security_of(options)
        self.discovery: Discovery = discovery_of(options)
        self.events = events_of(options)
        self.model: WorkerModel = find_worker_model(options, scratch)
        try:
            self.listen: PlaneAddress = parse_address(options.listen)
            self.security.check_bind(self.listen)
        except InferenceError as error:
            raise SettingsError(f"listen: {error.message}\n  hint: {error.hint}") from None
        index, _, count = options.share.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise SettingsError(f"share takes INDEX/COUNT such as 0/2, not '{options.share}'")
        self.index, self.count = int(index), int(count)
        self.name = options.worker_name or f"{socket.gethostname()}-{os.getpid()}"
        if self.listen.everywhere and not options.advertise:
            raise SettingsError(
                f"listen: nobody can be sent to {self.listen}\n  hint: --advertise HOST says where this machine is"
            )
