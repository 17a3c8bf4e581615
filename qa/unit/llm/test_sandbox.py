import asyncio
import time

import pytest

from tritium.core.errors import InvalidArgument
from tritium.llm import template as template_module
from tritium.llm.sandbox import Bounds
from tritium.llm.template import ChatTemplate

USER = [{"role": "user", "content": "hi"}]
LOOP = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
DOUBLE = "{% set ns = namespace(x='ab') %}{% for a in range(60) %}{% set ns.x = BODY %}{% endfor %}{{ ns.x | length }}"


@pytest.fixture
def narrow(monkeypatch):
    """Let templates do little, so that running into a bound takes no time."""
    monkeypatch.setattr(template_module, "_IN_ALL", Bounds(steps=200_000, seconds=1.0, characters=1 << 20))


def _render(source):
    return ChatTemplate(source, {}).render(USER)


@pytest.mark.parametrize(
    "source",
    [
        LOOP,
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{% for x in [[]] recursive %}{{ loop([[]]) }}{{ loop([[]]) }}{% endfor %}",
        "{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
        *(DOUBLE.replace("BODY", body) for body in ("ns.x + ns.x", "ns.x ~ ns.x", "[ns.x, ns.x] | join", "ns.x * 2")),
        *(DOUBLE.replace("BODY", body) for body in ("''.join([ns.x, ns.x])", "ns.x.replace('a', ns.x)")),
        DOUBLE.replace("BODY", "ns.x | replace('a', ns.x)"),
        "{{ 'x' * 10000000000 }}",
        "{{ 10000000000 * 'x' }}",
        "{{ [1] * 10000000000 }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{% set ns = namespace(n=9) %}{% for a in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n > 1 }}",
        "{{ '%999999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 999999999) }}",
        "{{ 'x'.ljust(9999999999) }}",
        "{{ 'x'.zfill(9999999999) }}",
        "{{ 'x' | center(9999999999) }}",
        "{{ 'x' | indent(9999999999, true) }}",
        "{{ messages | tojson(indent=9999999999) }}",
        "{{ lipsum(9999999) }}",
    ],
)
def test_a_template_cannot_go_on_or_grow_without_end(source, narrow):
    """Loops, recursion and values without measure are stopped at once, and told as the request's fault."""
    began = time.thread_time()
    with pytest.raises(InvalidArgument, match=r"stopped|refuses"):
        _render(source)
    assert time.thread_time() - began < 30


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ 'ab' * 3 }}{{ 2 * 3 }}{{ 2 ** 10 }}{{ 7 % 4 }}{{ [1] + [2] }}", "ababab610243[1, 2]"),
        ("{{ '%s-%d' % ('a', 2) }}{{ '%s' | format('b') }}{{ '%5.2f' % 1 }}", "a-2b 1.00"),
        ("{{ '{} {:>4}'.format('a', 1) }}{{ 'x' | center(5) }}|{{ 'a\nb' | indent(2) }}", "a    1  x  |a\n  b"),
        ("{{ 'a' ~ 1 ~ none }}{{ ['a', 1] | join('-') }}{{ ','.join(['a', 'b']) }}", "a1Nonea-1a,b"),
        ("{{ 'aXbX' | replace('X', '') }}{{ 'aa'.replace('a', 'b', 1) }}{{ 'abc' | truncate(20) }}", "abbaabc"),
        ("{% for x in [[1, [2]]] recursive %}{{ x if x is integer else loop(x) }}{% endfor %}", "12"),
        ("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21"),
    ],
)
def test_what_templates_do_is_as_in_jinja(source, expected):
    """Within the bounds operators, filters and calls give what they give in any jinja environment."""
    assert _render(source) == expected


async def test_a_long_conversation_does_not_hold_up_the_event_loop():
    """What takes long is rendered in a thread: a hundred thousand parts, while the loop goes on turning."""
    template = ChatTemplate(
        "{% for m in messages %}{% for p in m.content %}{{ p.text | trim }}{% endfor %}{% endfor %}", {}
    )
    parts = [{"type": "text", "text": f" part {n} "} for n in range(100_000)]
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    text = await template.render_aside([{"role": "user", "content": parts}])
    turning.cancel()
    assert text == "".join(f"part {n}" for n in range(100_000))
    assert turns > 5


async def test_short_and_long_are_rendered_alike():
    """A rendering that is begun anew in a thread is the same, and a refusal is the same refusal."""
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", {})
    for length in (1, 200_000):
        assert await template.render_aside([{"role": "user", "content": "x" * length}]) == "x" * length
    refusing = ChatTemplate("{% for m in messages %}{% endfor %}{{ raise_exception('no') }}", {})
    for count in (1, 20_000):
        with pytest.raises(InvalidArgument, match="no"):
            await refusing.render_aside(USER * count)


def test_a_template_that_is_nested_too_deep_is_refused():
    """A template whose very text is without end does not parse."""
    for source in ("{{ " + "(" * 50_000 + ")" * 50_000 + " }}", "{% if a %}" * 5_000 + "{% endif %}" * 5_000):
        with pytest.raises(InvalidArgument, match="does not parse"):
            ChatTemplate(source, {})
