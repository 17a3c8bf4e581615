import pytest

from tritium.core.errors import InvalidArgument
from tritium.llm.content_format import ContentFormat
from tritium.llm.template import ChatTemplate

PLAIN = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": '  Hi <b>& "you" é 日本 '},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Again?"},
]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"b": 1, "a": {"x": "é<>"}}}}]
CALL = {"function": {"name": "add", "arguments": {"b": 2, "a": "<"}}}
CALLED = [
    *PLAIN,
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "add", "arguments": {"b": 2, "a": "<"}}}],
    },
    {"role": "tool", "name": "add", "content": "3"},
]
DOCUMENTS = [{"title": "One", "text": "first"}]

# Each uses what the templates of one family of models use.
TEMPLATES = {
    "loop": "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}",
    "blocks_trimmed": """
{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<s>default<e>\\n' }}
    {%- endif %}
    {% if message['role'] == 'user' %}
        {{- '<u>' + message['content'] + '<e>\\n' -}}
    {% else %}
<{{ message.role }}>{{ message.content }}
    {% endif %}
{%- endfor -%}
{{ '<a>' if add_generation_prompt else '' }}""",
    "tools": "{% if tools %}{{ tools | tojson }}|{{ tools | tojson(indent=2) }}|"
    "{{ tools[0] | tojson(separators=(',', ':'), sort_keys=true) }}{% endif %}{% for m in messages %}"
    "{% if m.tool_calls is defined %}{% for c in m.tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "namespace_and_controls": "{% set ns = namespace(n=0, last='') %}{% for m in messages %}"
    "{% if m.role == 'system' %}{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}{% set ns.last = m.content %}"
    "{% if ns.n == 2 %}{% break %}{% endif %}{% endfor %}{{ ns.n }}:{{ ns.last }}",
    "macro": "{% macro turn(m, n) -%}<{{ m.role | upper }} {{ n }}>{{ m.content.strip().split(' ')[0] }}{%- endmacro %}"
    "{% for m in messages %}{{ turn(m, loop.index0) }}{% endfor %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}!"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "documents": "{% for d in documents or [] %}{{ d.title }}={{ d['text'] }};{% endfor %}{{ messages[-1].content }}",
    "date": "{{ strftime_now('%Y') | length }}{{ messages | length }}"
    "{{ messages[1:] | map(attribute='role') | join(',') }}",
    "own_variables": "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    "{{ unk_token | default('none') }}{{ messages[0]['content'] }}",
}


def _hugging_face(source, messages, **given):
    chat_templates = pytest.importorskip("transformers.utils.chat_template_utils")
    rendered, _ = chat_templates.render_jinja_template(
        conversations=[messages], chat_template=source, bos_token="<s>", eos_token="</s>", **given
    )
    return rendered[0]


@pytest.mark.parametrize("messages", [PLAIN, CALLED], ids=["plain", "called"])
@pytest.mark.parametrize("with_tools", [False, True])
@pytest.mark.parametrize("name", TEMPLATES)
def test_renders_as_hugging_face_does(name, with_tools, messages):
    """Every construct that models' templates use gives the text that apply_chat_template gives, to the letter."""
    template = ChatTemplate(TEMPLATES[name], {"bos_token": "<s>", "eos_token": "</s>"})
    tools = TOOLS if with_tools else None
    for add in (False, True):
        ours = template.render(
            messages,
            tools=tools,
            documents=DOCUMENTS,
            add_generation_prompt=add,
            variables={"enable_thinking": False},
        )
        assert ours == _hugging_face(
            TEMPLATES[name],
            messages,
            tools=tools,
            documents=DOCUMENTS,
            add_generation_prompt=add,
            enable_thinking=False,
        )


WALKS_PARTS = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{{ p.text }}{% endfor %}{% endif %};{% endfor %}"
)
CONTINUED = [
    (source, content)
    for source in (TEMPLATES["loop"], "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}", WALKS_PARTS)
    for content in ("It is ", "It is", "")
]


@pytest.mark.parametrize(("source", "content"), [*CONTINUED, (WALKS_PARTS, [{"type": "text", "text": "It is "}])])
def test_continues_the_final_message_as_hugging_face_does(source, content):
    """The prompt ends inside the last message, with its trailing space where the template keeps it."""
    messages = [PLAIN[1], {"role": "assistant", "content": content}]
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    ours = template.render(messages, add_generation_prompt=False, continue_final_message=True)
    assert ours == _hugging_face(source, messages, continue_final_message=True)
    assert messages[1]["content"] == content


def test_template_may_refuse():
    """What a template says by raise_exception reaches the client as the reason."""
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {})
    with pytest.raises(InvalidArgument, match="roles must alternate"):
        template.render(PLAIN)


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        ("{{ messages[0].content + '!' }}", [{"role": "user", "content": None}]),
        ("{{ messages[3].content.nothing.more }}", PLAIN[:1]),
        ("{{ messages[0]['content'] | tojson }}", [{"role": "user", "content": {1, 2}}]),
        ("{{ messages.append(1) }}", PLAIN),
        ("{{ ''.__class__.__mro__ }}", PLAIN),
    ],
)
def test_trouble_in_a_template_is_the_requests(source, messages):
    """A template that stumbles over a message, or reaches out of its sandbox, refuses the request; nothing escapes."""
    with pytest.raises(InvalidArgument, match="chat template refuses"):
        ChatTemplate(source, {}).render(messages)


def test_template_that_does_not_parse():
    """A broken template is told with its line when the model is loaded."""
    with pytest.raises(InvalidArgument, match="line 2"):
        ChatTemplate("ok\n{% for %}", {})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}{% for p in m['content'] %}{{ p.text }}{% endfor %}{% endfor %}", True),
        ("{% for m in messages %}{% set c = m.content %}{% for p in c | list %}x{% endfor %}{% endfor %}", True),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", False),
    ],
)
def test_knows_whether_the_template_walks_content_parts(source, expected):
    """Parts are handed to a template that iterates over contents; others get the joined text."""
    assert (ChatTemplate(source, {}).content_format is ContentFormat.OPENAI) is expected
