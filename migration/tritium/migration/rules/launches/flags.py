"""Rules of the server's flags: what each of them becomes, as the server's own reading of it says."""

from collections.abc import Iterator

from tritium.compat.flags import BY_NAME, Fate, FlagError, parse
from tritium.migration.deployment import Deployment, Launch
from tritium.migration.finding import Finding, Severity
from tritium.migration.launches.format import Format
from tritium.migration.rules.rule import Rule, replacement
from tritium.migration.text.edit import Edit, Fix
from tritium.migration.text.removal import without
from tritium.migration.text.source import Span
from tritium.migration.text.words import PLACEHOLDER, Word

_READ_ONLY = {Format.NOTEBOOK, Format.DOCUMENT}


class UnknownFlag(Rule):
    """A flag that tritonserver does not have, or a value that the flag does not take: the server does not start.

    Tritium reads the command line as tritonserver does, so what stopped Triton stops it too. The finding names the
    flag that was probably meant.

    Before start.sh:

        tritonserver --model-repository=/models --model-controll-mode=poll

    Finds: unrecognized option '--model-controll-mode'
    """

    id = "L02"
    severity = Severity.BLOCKER

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every flag that stops the server."""
        for launch, word, following in _flags(deployment):
            try:
                _parse(word, following)
            except FlagError as error:
                if launch.format in (Format.PYTHON, Format.NOTEBOOK) and not _is_literal(launch, following):
                    continue  # the value is a variable of the program
                name = word.text[2:].partition("=")[0]
                flag = BY_NAME.get(name)
                if flag is not None and flag.fate is Fate.REFUSED:
                    continue
                message = f"{error.message}: tritonserver does not start with it"
                yield self.at(launch.source, word.span(launch.source), message, error.hint, already=True)


class OldFlag(Rule):
    """A flag that is deprecated, or changes nothing here.

    Tritium accepts every flag of tritonserver. Those about GPU memory pools, thread pools and NUMA nodes change
    nothing, which its log says at each start; they may stay. Deprecated spellings, of severity `change`, are
    rewritten into what replaced them: `--model-store` into `--model-repository`, `--strict-model-config=true` into
    `--disable-auto-complete-config`; `--strict-model-config=false` is the default and is left out.

    Before docker-compose.yaml:

        services:
          triton:
            image: tritium
            command:
              [
                "tritonserver",
                "--model-store=/models",
                "--strict-model-config=false",
                "--log-verbose=1",
              ]

    After docker-compose.yaml:

        services:
          triton:
            image: tritium
            command:
              [
                "tritonserver",
                "--model-repository=/models",
                "--log-verbose=1",
              ]
    """

    id = "L03"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every flag that is read otherwise than it was written for."""
        for launch, word, following in _flags(deployment):
            name, _, value = word.text[2:].partition("=")
            flag = BY_NAME.get(name)
            if name in ("model-store", "strict-model-config"):
                yield self._deprecated(launch, word, following, name, value)
                continue
            if flag is not None and PLACEHOLDER.search(value or (following.text if following else "")):
                if flag.fate is Fate.NOTED:
                    message = f"--{name} changes nothing here: {flag.note}"
                    yield self.at(launch.source, word.span(launch.source), message)
                continue
            try:
                notes = _parse(word, following)
            except FlagError:
                continue
            for note in notes:
                said = note.replace("changes nothing:", "changes nothing here:", 1)
                yield self.at(launch.source, word.span(launch.source), said)

    def _deprecated(self, launch: Launch, word: Word, following: Word | None, name: str, value: str) -> Finding:
        source, span = launch.source, word.span(launch.source)
        fix = None
        if name == "model-store":
            name_span = Span(span.start, span.start + len("--model-store"))
            message, advice = "--model-store is deprecated", "write --model-repository"
            fix = replacement(source, name_span, "--model-repository") if span.of(source.text) == word.text else None
        else:
            given = (value or (following.text if following and not following.text.startswith("-") else "true")).lower()
            message = f"--strict-model-config={given} is deprecated"
            if PLACEHOLDER.search(given):
                advice, edit = (
                    "write --disable-auto-complete-config where it is true, and nothing where it is false",
                    None,
                )
            elif given in ("false", "0", "off"):
                advice = "leave it out: it is the default"
                edit = without(source, span) if value else None
            else:
                advice = "write --disable-auto-complete-config"
                edit = Edit(source.path, span, "--disable-auto-complete-config") if value else None
            fix = Fix((edit,)) if edit is not None else None
        fix = None if launch.format in _READ_ONLY else fix
        return self.at(source, span, message, advice, severity=Severity.CHANGE if fix else None, fix=fix)


class CloudRepository(Rule):
    """A model repository in an object store is served from local copies.

    `s3://`, `gs://` and `as://` repositories are read with the extra `cloud`; the environment that holds the
    credentials stays as it is. Models are copied below the folder that `--cloud-cache` names before they are loaded.

    Before start.sh:

        tritonserver --model-repository=s3://bucket/models

    Finds: models are served from local copies
    """

    id = "L11"
    severity = Severity.INFO

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Find every repository in an object store."""
        for launch, command in deployment.commands():
            for value in command.values("model-repository", "model-store", "model-repo"):
                if value.text.startswith(("s3://", "gs://", "as://")):
                    message = (
                        f"{value.text}: models are served from local copies, which --cloud-cache names the folder of"
                    )
                    span = value.span(launch.source)
                    yield self.at(launch.source, span, message, "install Tritium with the extra cloud")


def _flags(deployment: Deployment) -> Iterator[tuple[Launch, Word, Word | None]]:
    """Yield every flag of tritonserver itself, with the word that follows it."""
    for launch, command in deployment.commands():
        if command.launches_ranks or command.is_openai:
            continue
        for at, word in enumerate(command.words):
            if (
                word.text.startswith("--")
                and len(word.text) > 2
                and not PLACEHOLDER.search(word.text.partition("=")[0])
            ):
                yield launch, word, command.words[at + 1] if at + 1 < len(command.words) else None


def _is_literal(launch: Launch, word: Word | None) -> bool:
    """Tell whether a word of a program's list is a string."""
    return word is not None and launch.source.text[word.span(launch.source).start - 1] in "\"'"


def _parse(word: Word, following: Word | None) -> list[str]:
    """Read one flag as the server does; return its notes.

    Raises:
        FlagError: the server would not start with it.
    """
    name, equals, value = word.text[2:].partition("=")
    flag = BY_NAME.get(name)
    arguments = [word.text]
    # The next word is the value unless it is a flag itself, which only flags without a value can be followed by.
    if flag is not None and flag.kind != "none" and not equals and following and not following.text.startswith("--"):
        value = following.text
        arguments.append(value)
    if flag is not None and (PLACEHOLDER.search(value) or "{" in value):
        return []
    return parse(arguments, whole=False).notes
