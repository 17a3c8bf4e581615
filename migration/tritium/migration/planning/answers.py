"""Answers to a plan's questions: read from answers.yaml, asked on a terminal, written down to be used again.

    image: registry.example.com/tritium:1.0
    checkpoint:
      models/tensorrt_llm: meta-llama/Llama-3.1-8B-Instruct
    base:
      acme/triton-speech:25.06: keep

What is empty is not answered.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # it ships no types

from tritium.migration.deployment import Target
from tritium.migration.planning.plan import Question

KEEP = "keep"
"""The answer that leaves a thing as it is."""
_SINGLE = ("image", "vllm_image")
_MANY = ("checkpoint", "base")


class BadAnswers(Exception):
    """An answers file that does not say what it means."""


@dataclass(slots=True)
class Answers:
    """What has been answered, by topic and what it is about ("" where a topic has one question)."""

    given: dict[tuple[str, str], str] = field(default_factory=dict)

    def to(self, topic: str, about: str = "") -> str:
        """Return an answer; "" where there is none."""
        return self.given.get((topic, about), "")

    @property
    def target(self) -> Target:
        """Return the images to name."""
        default = Target()
        return Target(self.to("image") or default.image, self.to("vllm_image") or default.vllm_image)


def read_answers(path: Path) -> Answers:
    """Read a file of answers.

    Raises:
        BadAnswers: it is no YAML, or answers what nothing asks.
    """
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadAnswers(f"{path}: {error}") from error
    known = (*_SINGLE, *_MANY)
    if not isinstance(said, dict):
        raise BadAnswers(f"{path}: a mapping with the keys {', '.join(known)} is expected")
    for topic in said:
        if topic not in known:
            near = difflib.get_close_matches(str(topic), known, 1)
            meant = f"is {near[0]} meant?" if near else f"the keys are {', '.join(known)}"
            raise BadAnswers(f"{path}: nothing asks for {topic!r}; {meant}")
    answers = Answers()
    for topic, value in said.items():
        if topic in _MANY and isinstance(value, dict):
            answers.given |= {(topic, str(about)): str(one) for about, one in value.items() if one is not None}
        elif topic in _SINGLE and isinstance(value, str):
            answers.given[topic, ""] = value
        elif value is not None:
            what = "a mapping" if topic in _MANY else "a string"
            raise BadAnswers(f"{path}: {topic} must be {what}")
    return answers


def write_answers(path: Path, questions: Iterable[Question]) -> None:
    """Write the questions with their answers so far, each with what is known about it as a comment."""
    lines = ["# Answers for dynamo-migrate plan. What is empty is not answered; 'keep' leaves a thing as it is."]
    topic = ""
    for question in sorted(questions, key=lambda one: (*_SINGLE, *_MANY).index(one.topic)):
        known = f" ({', '.join(question.candidates)})" if question.candidates else ""
        indent = "  " if question.about else ""
        if question.about and question.topic != topic:
            lines.append(f"{question.topic}:")
        topic = question.topic
        lines.append(f"{indent}# {question.text}{known}")
        value = _quoted(question.answer) if question.answer else ""
        lines.append(f"{indent}{_quoted(question.about) if question.about else topic}: {value}".rstrip())
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def unasked(answers: Answers, questions: Iterable[Question]) -> list[str]:
    """Return what is answered by name and asked by none of the questions: misspelt, or of another deployment."""
    asked = {(one.topic, one.about) for one in questions}
    return [f"{topic} {about}" for topic, about in answers.given if about and (topic, about) not in asked]


def ask(questions: Iterable[Question], answers: Answers, reply: Callable[[str, str], str]) -> None:
    """Ask what has no answer; `reply` is given a question's text and what an empty answer stands for."""
    for question in questions:
        if not question.answer:
            known = f" [named here: {', '.join(question.candidates)}]" if question.candidates else ""
            said = reply(question.text + known, question.assumed).strip()
            if said:
                answers.given[question.topic, question.about] = said


def _quoted(text: str) -> str:
    return str(yaml.safe_dump(text, default_style='"', width=4096, allow_unicode=True)).strip()
