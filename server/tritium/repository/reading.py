"""Reading model folders, each once for as long as nothing in it changes.

A repository that is polled is mostly as it was: looking at the times of its files costs a hundredth of reading them.
"""

from pathlib import Path

from tritium.repository.candidate import Candidate, Rules
from tritium.repository.inspection import read_candidate
from tritium.repository.layout import fingerprint


class Reader:
    """Reads candidates by one set of rules; used from several threads, which at worst read a folder twice."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._read: dict[tuple[Path, str], Candidate] = {}

    def read(self, folder: Path, name: str, home: str, *, renamed: bool = False) -> Candidate:
        """Return the candidate of a folder as it is now; `home` is the repository that it is in.

        One that is `renamed` may have another name in its configuration.
        """
        known = self._read.get((folder, name))
        if known is not None and known.printed == fingerprint(folder):
            return known.again()
        candidate = self._read[folder, name] = read_candidate(folder, name, self.rules, renamed=renamed)
        if self.rules.namespacing:
            candidate.namespace = home
        return candidate.again()

    def forget(self, kept: set[Path]) -> None:
        """Forget the folders that are not among these."""
        for folder, name in [key for key in self._read if key[0] not in kept]:
            self._read.pop((folder, name), None)
