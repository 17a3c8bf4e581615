"""What a pre-tokenizer's regular expression can match, as far as cutting a text in two needs to know.

A pattern is read into pieces, each of which knows by which of a few sample characters it can begin and end, and which
of them it can hold next to each other. Whatever is not understood makes `read_pattern` return None: then nothing is
known, and nothing is cut.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace

Member = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Matches:
    """What an expression can match, in terms of the sample characters.

    `pairs` are two neighbours within one match; `single` the characters it can match alone; `peeks` tells that it may
    look at the character after it, `peeked` the characters after which it does so.
    """

    empty: bool = False
    first: frozenset[str] = frozenset()
    last: frozenset[str] = frozenset()
    single: frozenset[str] = frozenset()
    pairs: frozenset[tuple[str, str]] = frozenset()
    peeked: frozenset[str] = frozenset()
    peeks: bool = False

    def then(self, other: "Matches") -> "Matches":
        """Return what this, followed by the other, matches."""
        return Matches(
            empty=self.empty and other.empty,
            first=self.first | (other.first if self.empty else frozenset()),
            last=other.last | (self.last if other.empty else frozenset()),
            single=(self.single if other.empty and not other.peeks else frozenset())
            | (other.single if self.empty and not self.peeks else frozenset()),
            pairs=self.pairs | other.pairs | {(a, b) for a in self.last for b in other.first},
            peeked=self.peeked | other.peeked | (self.last if other.peeks else frozenset()),
            peeks=other.peeks or (self.peeks and other.empty),
        )

    def either(self, other: "Matches") -> "Matches":
        """Return what this or the other matches."""
        return Matches(
            self.empty or other.empty,
            self.first | other.first,
            self.last | other.last,
            self.single | other.single,
            self.pairs | other.pairs,
            self.peeked | other.peeked,
            self.peeks or other.peeks,
        )


def read_pattern(pattern: str, samples: str) -> Matches | None:
    """Return what a pattern can match of the samples, or None where it has anything that is not understood."""
    reader = _Reader(pattern, samples)
    try:
        found = reader.alternatives()
        return found if reader.at == len(pattern) else None
    except (_Unknown, IndexError):
        return None


class _Unknown(Exception):
    """Something in a pattern that is not understood."""


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_SCRIPTS = {"Han": "CJK", "Hiragana": "HIRAGANA", "Katakana": "KATAKANA", "Hangul": "HANGUL"}
_QUANTIFIERS = "?*+{"


class _Reader:
    """Reads the syntax that tokenizers are written in: Oniguruma's, without back references and looking behind."""

    def __init__(self, pattern: str, samples: str) -> None:
        self._pattern = pattern
        self._samples = samples
        self._ignore_case = False
        self.at = 0

    def alternatives(self) -> Matches:
        found = self._sequence()
        while self._next("|"):
            found = found.either(self._sequence())
        return found

    def _sequence(self) -> Matches:
        found = Matches(empty=True)
        while self.at < len(self._pattern) and self._pattern[self.at] not in "|)":
            found = found.then(self._quantified())
        return found

    def _quantified(self) -> Matches:
        found = self._atom()
        while self.at < len(self._pattern) and self._pattern[self.at] in _QUANTIFIERS:
            least, repeats = self._quantifier()
            if found.peeks:
                raise _Unknown
            if repeats:
                found = replace(found, pairs=found.then(found).pairs)
            if least == 0:
                found = replace(found, empty=True)
            elif least > 1:
                found = replace(found, single=frozenset())
        return found

    def _quantifier(self) -> tuple[int, bool]:
        """Return the least count, and whether it may be more than one; lazy and possessive ones match no more."""
        kind = self._take()
        if kind != "{":
            bounds = {"?": (0, False), "*": (0, True), "+": (1, True)}[kind]
        else:
            end = self._pattern.index("}", self.at) if "}" in self._pattern[self.at :] else -1
            least, _, most = self._pattern[self.at : end].partition(",")
            if end < 0 or not (least or most) or not (least + most).isdigit():
                raise _Unknown
            self.at = end + 1
            bounds = int(least or 0), True
        if self.at < len(self._pattern) and self._pattern[self.at] in "?+":
            self.at += 1
        return bounds

    def _atom(self) -> Matches:
        character = self._take()
        if character == "(":
            return self._group()
        if character == "[":
            return self._one_of(self._class())
        if character == "\\":
            if self._next("z") or self._next("Z"):
                return Matches(empty=True, peeks=True)
            return self._one_of(self._escape())
        if character == "$":
            return Matches(empty=True, peeks=True)
        if character == "^":
            raise _Unknown
        if character == ".":
            return self._one_of(lambda c: c != "\n")
        return self._one_of(self._literal(character))

    def _group(self) -> Matches:
        if self._next("?!") or self._next("?="):
            inner = self.alternatives()
            # Looking at one character is understood; looking further is not.
            if inner.empty or inner.pairs or inner.peeks:
                raise _Unknown
            found = Matches(empty=True, peeks=True)
        elif self._next("?i:"):
            before, self._ignore_case = self._ignore_case, True
            found = self.alternatives()
            self._ignore_case = before
        elif self._next("?:") or self._next("?>") or self._pattern[self.at] != "?":
            found = self.alternatives()
        else:
            raise _Unknown
        if not self._next(")"):
            raise _Unknown
        return found

    def _class(self) -> Member:
        """Read up to the closing bracket; `&&` takes what is in both sides."""
        negated = self._next("^")
        sides: list[list[Member]] = [[]]
        while not self._next("]"):
            if self._next("&&"):
                sides.append([])
            else:
                sides[-1].append(self._class_item())

        def member(character: str) -> bool:
            return all(any(item(character) for item in side) for side in sides) is not negated

        return member

    def _class_item(self) -> Member:
        character = self._take()
        if character == "[":
            return self._class()
        if character == "\\":
            kind = self._pattern[self.at]
            if kind.isalpha() and kind not in _ESCAPES:
                return self._escape()
            character = _ESCAPES.get(kind, kind)
            self.at += 1
        if self._pattern[self.at] == "-" and self._pattern[self.at + 1] != "]":
            self.at += 1
            last = self._take()
            if last in "[\\":
                raise _Unknown
            return lambda c: character <= c <= last
        return self._literal(character)

    def _escape(self) -> Member:
        kind = self._take()
        if kind in "pP":
            return self._property(negated=kind == "P")
        if kind.lower() in "sdw":
            test, wanted = _KINDS[kind.lower()], kind.islower()
            return lambda c: test(c) is wanted
        if kind in _ESCAPES:
            return self._literal(_ESCAPES[kind])
        if kind.isalnum():
            raise _Unknown
        return self._literal(kind)

    def _property(self, *, negated: bool) -> Member:
        if not self._next("{"):
            raise _Unknown
        end = self._pattern.index("}", self.at)
        name = self._pattern[self.at : end]
        self.at = end + 1
        if name.startswith("^"):
            negated, name = not negated, name[1:]
        if name in _SCRIPTS:
            begin = _SCRIPTS[name]
            return lambda c: unicodedata.name(c, "").startswith(begin) is not negated
        if name not in {"L", "M", "N", "P", "S", "Z"} and name not in _CATEGORIES:
            raise _Unknown
        return lambda c: unicodedata.category(c).startswith(name) is not negated

    def _literal(self, literal: str) -> Member:
        if self._ignore_case:
            return lambda c: c.lower() == literal.lower()
        return lambda c: c == literal

    def _one_of(self, member: Member) -> Matches:
        found = frozenset(filter(member, self._samples))
        return Matches(first=found, last=found, single=found)

    def _take(self) -> str:
        self.at += 1
        return self._pattern[self.at - 1]

    def _next(self, wanted: str) -> bool:
        if not self._pattern.startswith(wanted, self.at):
            return False
        self.at += len(wanted)
        return True


_CATEGORIES = frozenset(
    "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Zs Zl Zp Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So".split()  # noqa: SIM905  to be read
)
_KINDS: dict[str, Member] = {"s": str.isspace, "d": str.isdecimal, "w": lambda c: c.isalnum() or c == "_"}
