"""From `topics.txt` to chats: question forms, slips of the keyboard, several turns, system prompts.

Everything is drawn from one `random.Random`, so that a seed gives the same chats again.
"""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

FORMS = (
    "What is {}?",
    "What's {}?",
    "What exactly is {}?",
    "Explain {}",
    "Explain {} to me",
    "Can you explain {}?",
    "Could you explain {}?",
    "Please explain {}",
    "Tell me about {}",
    "Can you tell me about {}?",
    "Tell me what {} is",
    "Can you tell me what {} is?",
    "Do you know what {} is?",
    "I would like to know what {} is",
    "I do not understand {}",
    "Describe {}",
    "How would you describe {}?",
    "Define {}",
    "What do you know about {}?",
    "What do you mean by {}?",
    "What is meant by {}?",
    "What is {} for?",
    "What is {} good for?",
    "Why is there {}?",
    "Why do I need {}?",
    "How does {} work?",
    "Give me a short explanation of {}",
    "In short, what is {}?",
    "In simple words, what is {}?",
    "{}",
    "{}?",
    "the meaning of {}",
    "{} meaning",
    "{} explained",
    "{} in simple terms",
    "What is the purpose of {}?",
    "What is the use of {}?",
    "What does one need {} for?",
    "I have a question about {}",
    "I want to learn about {}",
    "Give me an introduction to {}",
    "Have you heard of {}?",
    "Help me understand {}",
    "Say something about {}",
)
# Of something to do.
ACTIONS = (
    "How do I {}?",
    "How can I {}?",
    "How would I {}?",
    "How could I {}?",
    "How should I {}?",
    "How to {}?",
    "How to {}",
    "How does one {}?",
    "I want to {}",
    "I would like to {}",
    "I need to {}",
    "Can I {}?",
    "Is it possible to {}?",
    "Is there a way to {}?",
    "What is the way to {}?",
    "What do I need to {}?",
    "What must I do to {}?",
    "Tell me how to {}",
    "Show me how to {}",
    "Explain how to {}",
    "Could you tell me how to {}?",
    "Do you know how to {}?",
    "Help me {}",
    "Please help me to {}",
    "{}",
    "Why should I {}?",
)
# The same question begun otherwise.
TURNS = {
    "How do I ": (
        "How can I ",
        "How would I ",
        "How to ",
        "How should I ",
        "I want to ",
        "Tell me how to ",
        "Show me how to ",
    ),
    "How can I ": ("How do I ", "How could I ", "How to ", "Is there a way to ", "What can I do to "),
    "Can I ": ("Could I ", "May I ", "Is it possible to ", "Am I able to ", "Is there a way to "),
    "Can you ": ("Could you ", "Are you able to ", "Would you ", "Do you know how to "),
    "What is ": ("What's ", "What exactly is ", "Tell me what is ", "Could you tell me what is ", "I wonder what is "),
    "What are ": ("Tell me about ", "Explain ", "What exactly are ", "Could you tell me what are ", "Describe "),
    "What does ": ("What exactly does ", "Tell me what does ", "So what does ", "Could you say what does "),
    "What happens ": ("Tell me what happens ", "What will happen ", "What do you do ", "What would happen "),
    "How does ": ("Explain how does ", "How exactly does ", "In what way does ", "Tell me how does "),
    "How are ": ("In what way are ", "Tell me how are ", "Explain how are ", "How exactly are "),
    "How is ": ("In what way is ", "Tell me how is ", "How exactly is "),
    "Why ": ("Tell me why ", "Why exactly ", "For what reason ", "Do you know why "),
    "Are you ": ("So are you ", "Tell me, are you ", "Aren't you ", "Would you say you are "),
    "Who ": ("Who exactly ", "Tell me who ", "So who "),
    "Which ": ("What ", "Tell me which ", "Could you say which "),
    "Do you ": ("So do you ", "Could you say whether you ", "Don't you "),
}
OPENINGS = (
    "Quick question: ",
    "I wonder: ",
    "My question is: ",
    "Could you tell me: ",
    "Please ",
    "Hi, ",
    "Hello! ",
    "Hey, ",
    "So ",
    "And ",
    "OK, ",
    "Now ",
    "Then ",
    "Hi! ",
    "Good, ",
    "Tell me: ",
)
CLOSINGS = (
    " please",
    " Please!",
    " Thanks",
    ", please",
    " Thank you!",
    " I am new to this.",
    " in one sentence",
    " Just briefly.",
)
SYSTEM = (
    "You are a helpful assistant.",
    "You are tiny_chat.",
    "You are a friendly assistant. Answer briefly.",
    "Answer in one or two sentences.",
    "You are an expert in serving models.",
    "Be short and clear.",
    "You answer questions about model serving.",
)


@dataclass(slots=True)
class Topic:
    """One answer and the questions that ask for it; `held_out` questions are never trained on."""

    answer: str = ""
    subjects: list[str] = field(default_factory=list)
    forms: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A system prompt ("" for none) and turns."""

    system: str
    turns: tuple[Turn, ...]


def read_topics(path: Path) -> list[Topic]:
    """Read the topics of a file in the form that its first lines describe."""
    topics = []
    for block in path.read_text().split("\n\n"):
        topic = Topic()
        places = {"~": topic.subjects, "=": topic.forms, "+": topic.actions, "?": topic.questions, "%": topic.held_out}
        for line in block.splitlines():
            mark, _, text = line.partition(" ")
            if mark in places:
                places[mark].append(text)
            elif mark == "!":
                topic.answer = text
        if topic.answer:
            topics.append(topic)
    return topics


def ask(topic: Topic, random: Random) -> str:
    """Draw one way to ask for the topic."""
    kinds = (topic.subjects, topic.actions, topic.questions)
    kind = random.choices(range(3), [weight if lines else 0 for weight, lines in zip((4, 3, 5), kinds, strict=True)])[0]
    question = random.choice(kinds[kind])
    if kind == 0:
        question = random.choice(topic.forms or FORMS).format(question)
    elif kind == 1:
        question = random.choice(ACTIONS).format(question)
    elif random.random() < 0.4:
        question = _turned(question, random)
    return _as_typed(question, random)


def chat(topics: list[Topic], random: Random) -> Chat:
    """Draw a chat of one to three turns."""
    # Topics with many ways to ask for them come up more often, as they do with people.
    weights = [
        min(4.0, 0.5 + (len(topic.questions) + 2 * len(topic.subjects) + len(topic.actions)) / 20) for topic in topics
    ]
    drawn = random.choices(topics, weights, k=random.choices((1, 2, 3), (60, 25, 15))[0])
    kind = random.random()
    if kind < 0.5:
        system = ""
    elif kind < 0.75:
        system = random.choice(SYSTEM)
    else:
        system = " ".join(topic.answer for topic in random.choices(topics, k=random.randint(1, 6)))
    return Chat(system, tuple(Turn(ask(topic, random), topic.answer) for topic in drawn))


def _turned(question: str, random: Random) -> str:
    """Begin a question in another way, where there is one."""
    for beginning, others in TURNS.items():
        if question.startswith(beginning):
            return random.choice(others) + question.removeprefix(beginning)
    return question


def _as_typed(question: str, random: Random) -> str:
    """Change a question as people do: openings, thanks, lower case, a missing mark, a slip."""
    if random.random() < 0.15:
        question = random.choice(OPENINGS) + question[:1].lower() + question[1:]
    if random.random() < 0.10:
        question += random.choice(CLOSINGS)
    kind = random.random()
    if kind < 0.25:
        question = question.lower()
    elif kind < 0.28:
        question = question.upper()
    elif kind < 0.45:
        question = question[:1].upper() + question[1:]
    if random.random() < 0.25:
        question = question.rstrip("?.!")
    elif random.random() < 0.1:
        question += random.choice("?!.")
    if random.random() < 0.2 and len(question) > 6:
        question = _slip(question, random)
    return question


def _slip(text: str, random: Random) -> str:
    """Swap, drop or double one character."""
    at = random.randrange(1, len(text) - 1)
    kind = random.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if kind == 1:
        return text[:at] + text[at + 1 :]
    return text[:at] + text[at] + text[at:]
