"""The shape of protobuf's text format: fields, blocks and lists, as a tree of tokens, without knowing any schema.

    entries := { name [":"] value ["," | ";"] }
    value   := scalar | "{" entries "}" | "<" entries ">" | "[" [value {"," value}] "]"

Reading never stops at an error: each becomes a Problem and the rest is read as well as it can be.
"""

from dataclasses import dataclass, field

from tritium.compat.config.problem import Problem
from tritium.compat.config.tokens import CLOSERS, Kind, Source, Token

_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number with its sign, a name, or strings that stand beside each other and are one."""

    tokens: tuple[Token, ...]

    @property
    def at(self) -> Token:
        """Return the token to point at."""
        first = self.tokens[0]
        return Token(first.kind, self.text, first.start) if first.is_symbol("-") else first

    @property
    def text(self) -> str:
        """Return the value as it stands in the file."""
        return "".join(t.text for t in self.tokens)


@dataclass(frozen=True, slots=True)
class Block:
    """A message: its fields in order. One that is not closed may hold fields meant for the message around it."""

    at: Token
    entries: list["Entry"]
    closed: bool = True


@dataclass(frozen=True, slots=True)
class Listing:
    """A bracketed list of values."""

    at: Token
    items: list["Value"]


Value = Scalar | Block | Listing


@dataclass(frozen=True, slots=True)
class Entry:
    """One field; `value` is None where the file gives none (that is reported already)."""

    name: Token
    colon: bool
    value: Value | None


@dataclass(slots=True)
class Reader:
    """Reads one source into entries; what is wrong with it goes to `problems`."""

    source: Source
    problems: list[Problem] = field(default_factory=list)
    _tokens: list[Token] = field(default_factory=list)
    _next: int = 0
    _open: list[Token] = field(default_factory=list)
    _unclosed_at: set[int] = field(default_factory=set)
    _cut_short: bool = False

    def read(self) -> list[Entry]:
        """Return the fields of the file."""
        self._tokens = list(self.source.tokens())
        entries: list[Entry] = []
        while True:
            entries += self._entries("")
            if self._peek().kind is Kind.END:
                return entries
            self._report(self._take(), "nothing is open that this would close", "delete it, or open its bracket")

    def _peek(self, ahead: int = 0) -> Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _take(self) -> Token:
        token = self._peek()
        self._next += 1
        return token

    def _report(self, at: Token, message: str, hint: str = "") -> None:
        self.problems.append(self.source.problem(at, message, hint))

    def _entries(self, closer: str) -> list[Entry]:
        entries: list[Entry] = []
        while not self._ends(closer):
            token = self._peek()
            if token.kind is Kind.NAME:
                entries.append(self._entry())
            elif token.kind is Kind.TEMPLATE:
                self._report(self._take(), f"unfilled template value {token.text}", template_hint(token.text))
            elif token.is_symbol(",", ";"):
                self._report(self._take(), f'stray "{token.text}"', "delete it")
            else:
                self._report(token, f"expected the name of a field, got {_shown(token)}")
                self._skip_to_name()
        return entries

    def _ends(self, closer: str) -> bool:
        """Take the closing bracket if it is next; also end where an outer bracket closes, or the file ends."""
        token = self._peek()
        if closer and token.is_symbol(closer):
            self._take()
            return True
        if token.kind is Kind.END:
            if closer and not self._cut_short:
                self._unclosed(f'the file ends where "{closer}" is due')
                self._cut_short = True
            return True
        if not token.is_symbol("}", ">", "]"):
            return False
        if not closer:
            return True
        if token.text in [CLOSERS[opened.text] for opened in self._open[:-1]]:
            self._unclosed(f'line {self.source.line_of(token.start)} has "{token.text}" where "{closer}" is due')
            return True
        self._report(self._take(), f'"{token.text}" closes nothing here', f'"{closer}" is due')
        return self._ends(closer)

    def _unclosed(self, hint: str) -> None:
        opened = self._open[-1]
        if self.source.commented(opened):
            hint = 'a comment begins with "#" and runs to the end of the line: the bracket that closes it is inside'
        self._report(opened, f'"{opened.text}" is never closed', hint)
        self._unclosed_at.add(opened.start)

    def _skip_to_name(self) -> None:
        self._take()
        while self._peek().kind is not Kind.END and not self._peek().is_symbol("}", ">", "]"):
            if self._starts_field():
                return
            self._take()

    def _starts_field(self) -> bool:
        return self._peek().kind is Kind.NAME and self._peek(1).is_symbol(":", "{", "[", "<")

    def _entry(self) -> Entry:
        name = self._take()
        colon = self._peek().is_symbol(":")
        if colon:
            self._take()
        value = None
        if self._has_value(name, colon=colon):
            value = self._value()
        else:
            self._report(name, f"{name.text} has no value", f"write {name.text}: VALUE, or delete the line")
        if self._peek().is_symbol(",", ";"):
            self._take()
        return Entry(name, colon, value)

    def _has_value(self, name: Token, *, colon: bool) -> bool:
        token = self._peek()
        if token.kind is Kind.END or token.is_symbol("}", ">", "]", ",", ";", ":"):
            return False
        if token.is_symbol("{", "<", "[", "-"):
            return True
        same_line = self.source.line_of(name.start) == self.source.line_of(token.start)
        if self._starts_field():
            # "kind:" at the end of a line, and the next field below it.
            return same_line and colon
        return colon or same_line

    def _value(self) -> Value:
        token = self._take()
        if token.is_symbol("{", "<", "["):
            return self._bracketed(token)
        if token.is_symbol("-"):
            return Scalar((token, self._take())) if self._peek().kind in (Kind.NUMBER, Kind.NAME) else Scalar((token,))
        tokens = [token]
        while tokens[0].kind is Kind.STRING and self._peek().kind is Kind.STRING:
            tokens.append(self._take())
        return Scalar(tuple(tokens))

    def _bracketed(self, opened: Token) -> Value:
        if len(self._open) == _DEPTH:
            self._report(opened, f"nested deeper than {_DEPTH} levels")
            self._next = len(self._tokens) - 1
            return Block(opened, [])
        self._open.append(opened)
        try:
            if opened.text == "[":
                return Listing(opened, self._items())
            entries = self._entries(CLOSERS[opened.text])
            return Block(opened, entries, closed=opened.start not in self._unclosed_at)
        finally:
            self._open.pop()

    def _items(self) -> list[Value]:
        items: list[Value] = []
        while not self._ends("]"):
            token = self._peek()
            if token.is_symbol(",", ";", ":"):
                self._report(self._take(), f'stray "{token.text}"', "a list is [ value, value ]")
                continue
            if self._starts_field():
                # The list was never closed: these are fields of the message around it.
                self._unclosed(f'field {token.text} begins where "]" is due')
                return items
            items.append(self._value())
            if self._peek().is_symbol(","):
                comma = self._take()
                if self._peek().is_symbol("]"):
                    self._report(comma, 'a list may not end with ","', "delete the comma")
            elif not (self._peek().kind is Kind.END or self._peek().is_symbol("}", ">", "]") or self._starts_field()):
                self._report(self._peek(), f'expected "," or "]" before {_shown(self._peek())}')
        return items


def template_hint(text: str) -> str:
    """Say how to fill a placeholder in."""
    name = text.strip("${}@ ")
    return f"fill in {name}: this file is a template" if name else "this file is a template: fill it in"


def _shown(token: Token) -> str:
    if token.kind is Kind.END:
        return "the end of the file"
    return token.text if token.kind is Kind.STRING else f'"{token.text}"'
