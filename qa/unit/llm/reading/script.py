"""Reads the scripts of readers: what a model of one family writes, and what a client should get of it.

parser NAME                        both parsers by name; `tools-by NAME` and `reasoning NAME` for one of them
tool NAME {"properties": ...}      the tools offered, all cases of the file
special TOKEN TOKEN                which markers are special tokens

== What the case shows.
TEXT, as many lines as it takes
-- option, option                  prompt "...", continued, one call only, no reasoning, no tools, forced NAME,
                                   constrained, thinks first, vllm differs (see test_vllm_agrees)
reasoning TEXT                     what is read, in order; TEXT is JSON where it has line ends or edges of space
content TEXT
call NAME ARGUMENTS
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from tritium.llm.reading.choose import Formats, formats_of, reader_for
from tritium.llm.reading.piece import Content, Reasoning, ToolArguments, ToolCall
from tritium.llm.reading.reading import Asked, Tool


@dataclass
class Case:
    title: str
    text: str
    expected: list[str]
    formats: Formats
    asked: Asked
    special: tuple[str, ...]
    prompt: str = ""
    options: str = ""

    def reading(self):
        return reader_for(self.formats, self.asked, self.prompt, self)

    def special_ids(self, texts):
        """Stand in for the tokenizer."""
        return {text: i for i, text in enumerate(texts) if text in self.special}


@dataclass
class Said:
    """What pieces come to, in the words of the script; ids of calls apart."""

    lines: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


def read_script(path: Path) -> list[Case]:
    head, *blocks = path.read_text(encoding="utf-8").split("\n== ")
    tool = reasoning = "none"
    tools, special = [], ()
    for line in head.splitlines():
        word, _, rest = line.partition(" ")
        match word:
            case "parser":
                tool = reasoning = rest
            case "tools-by":
                tool = rest
            case "reasoning":
                reasoning = rest
            case "tool":
                name, _, schema = rest.partition(" ")
                tools.append(Tool(name, json.loads(schema or "{}")))
            case "special":
                special = tuple(rest.split())
    formats = formats_of(tool, reasoning, "")
    asked = Asked(tools=tuple(tools))
    return [_case(block, Case("", "", [], formats, asked, special)) for block in blocks]


def _case(block: str, bare: Case) -> Case:
    title, _, rest = block.partition("\n")
    text, _, expected = ("\n" + rest).partition("\n--")
    options, _, expected = expected.partition("\n")
    case = replace(bare, title=title, text=text[1:], expected=[e for e in expected.splitlines() if e], options=options)
    for option in filter(None, options.strip().split(", ")):
        match option.split(" ", 1):
            case ["prompt", prompt]:
                case.prompt = json.loads(prompt)
            case ["one", "call only"]:
                case.asked = replace(case.asked, parallel=False)
            case ["no", "reasoning"]:
                case.asked = replace(case.asked, reasoning=False)
            case ["no", "tools"]:
                case.asked = replace(case.asked, tools=())
            case ["forced", name]:
                case.asked = replace(case.asked, forced=name)
            case ["constrained"]:
                case.asked = replace(case.asked, constrained=True)
            case ["continued"]:
                case.asked = replace(case.asked, continues=True)
            case ["thinks", "first"]:
                case.formats = replace(case.formats, thinks_first=True)
            case ["vllm", *_]:
                pass
            case other:
                raise AssertionError(other)
    return case


def run(case: Case, cuts: list[int]) -> Said:
    """Read the text cut at these places, and check what holds of any reading."""
    reading = case.reading()
    if reading is None:
        return Said([f"content {_shown(case.text)}"] if case.text else [])
    reader = reading.begin()
    pieces, settled, resting = [], False, None
    for start, end in zip([0, *cuts], [*cuts, len(case.text)], strict=True):
        part = case.text[start:end]
        # What a settled reader would say is what the fast path says without it.
        fresh = reader.push(part)
        assert not settled or fresh == ([Content(part)] if part else []), f"settled, yet {fresh} for {part!r}"
        quiet = part and not part[-1].isspace() and not reading.notable & set(part)
        assert not (resting and quiet) or fresh == [resting(part)], f"at rest, yet {fresh} for {part!r}"
        settled, resting = reader.settled, reader.rests_in
        pieces += fresh
    pieces += reader.end()
    return _said(pieces)


def _said(pieces) -> Said:
    said, whole, fragments = Said(), [], []
    for piece in pieces:
        match piece:
            case Content(text):
                assert text
                _join(whole, "content", text)
            case Reasoning(text):
                assert text
                _join(whole, "reasoning", text)
            case ToolCall(index, call_id, name):
                assert index == len(said.ids)
                said.ids.append(call_id)
                whole.append([f"call {name} ", ""])
            case ToolArguments(index, fragment):
                assert fragment
                assert index == len(said.ids) - 1
                fragments.append(fragment)
                whole[-1][1] += fragment
    valid = all(_is_json(text) for kind, text in whole if kind.startswith("call"))
    assert not valid or not any(map(_half_escape, fragments)), fragments
    said.lines = [kind + (text if kind.startswith("call") else _shown(text)) for kind, text in whole]
    return said


def _join(whole, kind, text) -> None:
    if whole and whole[-1][0] == f"{kind} ":
        whole[-1][1] += text
    else:
        whole.append([f"{kind} ", text])


def _shown(text: str) -> str:
    return (
        text
        if text == text.strip() and "\n" not in text and not text.startswith('"')
        else json.dumps(text, ensure_ascii=False)
    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _half_escape(fragment: str) -> bool:
    """Tell whether a fragment ends with an odd number of backslashes."""
    return (len(fragment) - len(fragment.rstrip("\\"))) % 2 == 1
