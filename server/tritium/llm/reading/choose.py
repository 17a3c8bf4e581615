"""Which notations a model writes in, and by which of them the answers to one request are read.

model.json or config.pbtxt: tool_parser, reasoning_parser --> Formats --+
auto: the chat template shows what it writes ------------------^        +--> reader_for(request) --> Reading
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tritium.llm.reading.families.forced import forced
from tritium.llm.reading.families.harmony import MARKERS as HARMONY_MARKERS
from tritium.llm.reading.families.harmony import harmony
from tritium.llm.reading.families.reasoning import Thoughts
from tritium.llm.reading.grammar import Calls, Grammar, GrammarReader, Scene, content, content_with_calls
from tritium.llm.reading.piece import OutputReader
from tritium.llm.reading.pieces import Pieces, call_id
from tritium.llm.reading.reading import Asked, Reading, Tool
from tritium.llm.reading.table import (
    AUTO,
    HARMONY,
    NONE,
    REASONING_PARSERS,
    TOOL_PARSERS,
    reasoning_parser_name,
    tool_parser_name,
)
from tritium.llm.reading.text import Text, Wait
from tritium.llm.tokenizer import Tokenizer

# By the order of this list: a template may mention what a later line is about, but then it is the earlier family's.
_TOOLS_IN_TEMPLATE = (
    ("<|channel|>", HARMONY),
    ("[TOOL_CALLS]", "mistral"),
    ("<｜tool▁call▁begin｜>", "deepseek_v3"),
    ("<|tool_call_begin|>", "kimi_k2"),
    ("<minimax:tool_call>", "minimax_m2"),
    ("<seed:tool_call>", "seed_oss"),
    ("<longcat_tool_call>", "longcat"),
    ("<arg_key>", "glm45"),
    ("<parameter=", "qwen3_coder"),
    ("functools[", "phi4_mini_json"),
    ("<|/tool_call|>", "phi4_mini_json"),
    ("<|/tool|>", "phi4_mini_json"),
    ("<|tool_call|>", "granite"),
    ("<tool_calls>", "jamba"),
    ("<tool_call>", "hermes"),
    ("<|start_of_role|>tools", "granite"),
    ("<|start_of_role|>available_tools", "granite"),
    ("<|python_start|>", "pythonic"),
    ("func_name1(", "pythonic"),
    ("<|python_tag|>", "llama3_json"),
    ("dictionary of argument name", "llama3_json"),
    ("<|start_header_id|>ipython", "llama3_json"),
)
_REASONING_IN_TEMPLATE = (
    ("<|channel|>", HARMONY),
    ("[THINK]", "mistral"),
    ("<seed:think>", "seed_oss"),
    ("Here is my thought process:", "granite"),
    ("</think>", "qwen3"),
    ("<think>", "qwen3"),
)


@dataclass(frozen=True, slots=True)
class Formats:
    """What a model writes in, by the names of the tables; "none" for nothing that is known."""

    tool: str = NONE
    reasoning: str = NONE
    thinks_first: bool = False
    """Whether the engine lets the model think before it holds it to a schema; otherwise the schema holds at once."""

    @property
    def harmony(self) -> bool:
        """Tell whether the model writes harmony, which tells everything apart by itself."""
        return HARMONY in (self.tool, self.reasoning)

    @property
    def calls(self) -> Calls | None:
        """Return how the model writes calls."""
        return TOOL_PARSERS.get(self.tool)

    @property
    def thoughts(self) -> Thoughts | None:
        """Return how the model marks what it thinks."""
        return REASONING_PARSERS.get(self.reasoning)


def formats_of(tool: str, reasoning: str, template: str) -> Formats:
    """Return the notations by name; "auto" is what the chat template shows.

    Raises:
        InvalidArgument: there is no parser of that name.
    """
    tool, reasoning = tool_parser_name(tool or AUTO), reasoning_parser_name(reasoning or AUTO)
    return Formats(
        _detected(template, _TOOLS_IN_TEMPLATE) if tool == AUTO else tool,
        _detected(template, _REASONING_IN_TEMPLATE) if reasoning == AUTO else reasoning,
    )


def _detected(template: str, table: Iterable[tuple[str, str]]) -> str:
    return next((name for sign, name in table if sign in template), NONE)


def reader_for(formats: Formats, asked: Asked, prompt: str, tokenizer: Tokenizer) -> Reading | None:
    """Return how to read what a model answers to a prompt, or None where all of it is content."""
    if formats.harmony and not (asked.forced or asked.constrained):
        return _reading(harmony, HARMONY_MARKERS, asked, tokenizer, watched=HARMONY_MARKERS)
    calls = formats.calls if asked.tools and not asked.forced else None
    thoughts = formats.thoughts
    if (asked.forced or asked.constrained) and not formats.thinks_first:
        thoughts = None
    begun = None
    if thoughts is not None:
        begun = thoughts.continued_in(prompt) if asked.continues else thoughts.begun_in(prompt)
    if begun is False:
        thoughts = None
    then = forced(asked.forced) if asked.forced else _after_thoughts(calls)
    if thoughts is None:
        if not asked.forced and calls is None:
            return None
        return _reading(then, calls.markers if calls else (), asked, tokenizer, calls)
    openers = calls.openers if calls is not None else ()
    chosen = thoughts

    def grammar(scene: Scene) -> Wait[None]:
        yield from chosen.read(scene, then, begun=begun, calls=openers)

    found = chosen.markers + (calls.markers if calls is not None else ())
    will_settle = calls is None and not asked.forced
    return _reading(grammar, found, asked, tokenizer, calls, watched=chosen.ends, will_settle=will_settle)


def prepare(formats: Formats, tokenizer: Tokenizer) -> None:
    """Have ready what the first request would wait for."""
    for asked in (Asked(), Asked(tools=(Tool("any"),))):
        if (reading := reader_for(formats, asked, "", tokenizer)) is not None:
            tokenizer.quiet_pieces(reading.notable)


def _after_thoughts(calls: Calls | None) -> Grammar:
    if calls is None:
        return content
    found = calls
    return lambda scene: content_with_calls(scene, found)


def _reading(
    grammar: Grammar,
    markers: tuple[str, ...],
    asked: Asked,
    tokenizer: Tokenizer,
    calls: Calls | None = None,
    *,
    watched: tuple[str, ...] = (),
    will_settle: bool = False,
) -> Reading:
    special = tokenizer.special_ids(markers)
    tools = {tool.name: tool for tool in asked.tools}
    new_id = (calls.new_id if calls is not None else None) or call_id

    def begin() -> OutputReader:
        out = Pieces(parallel=asked.parallel, reasoning=asked.reasoning, new_id=new_id)
        return GrammarReader(Scene(Text(), out, tools, tuple(special)), grammar, will_settle=will_settle)

    watched = (*watched, *(calls.markers if calls is not None else ()), *special)
    return Reading(begin, frozenset(special.values()), frozenset(marker[0] for marker in watched))
