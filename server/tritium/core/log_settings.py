"""How the server logs, as the logging extension shows it and changes it while the server runs.

The HTTP and gRPC fronts find a `LogSettingsControl` as `ServerState.log_settings`. To answer, they read the update
with `compat.v2.log_setting` (`read_json`, `read_values`), pass it to `update`, and write `settings.rows()`:

    server.log_settings.update(log_setting.read_json(document))
    return answer.json(server.log_settings.settings.rows())
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from tritium.compat.v2.log_setting import LogUpdate, LogValue


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Which severities are written, how verbose, in which form, and to which file (none: standard error)."""

    file: str = ""
    info: bool = True
    warning: bool = True
    error: bool = True
    verbose_level: int = 0
    format: str = "default"

    def rows(self) -> Mapping[str, LogValue]:
        """Return the settings by the names and in the order of the logging extension."""
        return {
            "log_file": self.file,
            "log_info": self.info,
            "log_warning": self.warning,
            "log_error": self.error,
            "log_verbose_level": self.verbose_level,
            "log_format": self.format,
        }

    def changed(self, update: LogUpdate) -> "LogSettings":
        """Return the settings with what an update names."""
        return replace(
            self,
            info=self.info if update.info is None else update.info,
            warning=self.warning if update.warning is None else update.warning,
            error=self.error if update.error is None else update.error,
            verbose_level=self.verbose_level if update.verbose_level is None else update.verbose_level,
            format=self.format if update.format is None else update.format,
        )


class LogSettingsControl(Protocol):
    """What the fronts know of the log: its settings now, and a way to change them."""

    @property
    def settings(self) -> LogSettings:
        """Return the settings in effect."""
        ...

    def update(self, update: LogUpdate) -> None:
        """Change the settings that an update names, from the next line on."""
        ...


class LogSettingsBook:
    """A control that only remembers: what a server has that was assembled without a log."""

    def __init__(self, settings: LogSettings | None = None) -> None:
        self.settings = settings or LogSettings()

    def update(self, update: LogUpdate) -> None:
        """Change the settings that an update names."""
        self.settings = self.settings.changed(update)
