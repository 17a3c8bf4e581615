"""What each flag of a tritonserver command line becomes, as the server's own reading of it says."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tritium.compat.flags import BY_NAME, Fate, FlagError, parse
from tritium.migration.finding import Finding, Severity
from tritium.migration.words import PLACEHOLDER, Word

_CLOUD = ("s3://", "gs://", "as://")


def flag_findings(words: Sequence[Word], path: Path) -> Iterator[Finding]:
    """Judge every flag among the words of a command; other words are passed over."""
    for at, word in enumerate(words):
        if word.text.startswith("--") and len(word.text) > 2:
            yield from _judge(word, words[at + 1] if at + 1 < len(words) else None, path)


def _judge(word: Word, following: Word | None, path: Path) -> Iterator[Finding]:
    name, equals, value = word.text[2:].partition("=")
    if PLACEHOLDER.search(name):
        return
    arguments = [word.text]
    flag = BY_NAME.get(name)
    # The next word is the value unless it is a flag itself, which only flags without a value can be followed by.
    if flag is not None and flag.kind != "none" and not equals and following and not following.text.startswith("--"):
        value = following.text
        arguments.append(value)
    if flag is not None and PLACEHOLDER.search(value):
        if flag.fate is Fate.REFUSED:
            said = f"--{name}: {flag.note} is not available in this version, and {value} may ask for it"
            yield _finding("L03", Severity.CHANGE, word, path, said, "leave the flag out to do without")
        elif flag.fate is Fate.NOTED:
            yield _finding("L03", Severity.INFO, word, path, f"--{name} changes nothing here: {flag.note}")
    else:
        yield from _read(name, arguments, word, path)
    if flag is not None and flag.setting == "repositories" and value.startswith(_CLOUD):
        said = f"--{name}={value}: models are served from local copies, which --cloud-cache names the folder of"
        yield _finding("L11", Severity.INFO, word, path, said, "install Tritium with the extra cloud")


def _read(name: str, arguments: list[str], word: Word, path: Path) -> Iterator[Finding]:
    try:
        parsed = parse(arguments, whole=False)
    except FlagError as error:
        message, advice = error.message, error.hint
        known = BY_NAME.get(name)
        refused = known is not None and known.fate is Fate.REFUSED and "is not available" in message
        if not refused:
            message += ": tritonserver does not start with it"
        yield _finding("L03" if refused else "L02", Severity.BLOCKER, word, path, message, advice)
        return
    for note in parsed.notes:
        said = note.replace("changes nothing:", "changes nothing here:", 1)
        yield _finding("L03", Severity.INFO, word, path, said)


def _finding(rule: str, severity: Severity, word: Word, path: Path, message: str, advice: str = "") -> Finding:
    return Finding(rule, severity, path, word.line, word.column, message, advice)
