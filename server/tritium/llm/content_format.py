"""In which form a chat template takes the content of messages: a string, or OpenAI's list of parts.

Read off the template's syntax tree by vLLM's rule (vllm/renderers/hf.py): a template that loops over the content of
the messages it loops over takes parts. A variable set to the content counts as the content, whatever its name.
"""

from enum import StrEnum
from typing import TypeGuard

from jinja2 import nodes


class ContentFormat(StrEnum):
    """The form of a message's content, by vLLM's names."""

    STRING = "string"
    OPENAI = "openai"


def detect_content_format(tree: nodes.Template) -> ContentFormat:
    """Return the form that a template is written for."""
    return ContentFormat.OPENAI if _loops_over_content(tree) else ContentFormat.STRING


def _loops_over_content(tree: nodes.Template) -> bool:
    messages = set(_aliases(tree, "messages"))
    message = {
        loop.target.name
        for loop in tree.find_all(nodes.For)
        if isinstance(loop.target, nodes.Name) and _name_in(loop.iter, messages)
    }
    content = {"content"} | {
        assign.target.name
        for assign in tree.find_all(nodes.Assign)
        if isinstance(assign.target, nodes.Name) and _content_of(assign.node, message)
    }
    bound: dict[int, set[str]] = {}
    for macro in tree.find_all(nodes.Macro):
        bound |= _macro_loops(tree, macro, message)
    for loop in tree.find_all(nodes.For):
        if _content_of(loop.iter, message):
            return True
        if _name_in(loop.iter, bound.get(id(loop), content)):
            return True
    return False


def _macro_loops(tree: nodes.Template, macro: nodes.Macro, message: set[str]) -> dict[int, set[str]]:
    """Return by each loop of a macro the parameters that are handed the content of a message."""
    names: set[str] = set()
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == macro.name:
            by_place = zip(macro.args, call.args, strict=False)
            names |= {parameter.name for parameter, given in by_place if _content_of(given, message)}
            names |= {given.key for given in call.kwargs if _content_of(given.value, message)}
    return {id(loop): names for loop in macro.find_all(nodes.For)}


def _aliases(tree: nodes.Template, name: str) -> list[str]:
    """Return a variable and those that are set to it or to a part of it."""
    found = [name]
    for known in found:
        targets = [assign.target for assign in tree.find_all(nodes.Assign) if _name_in(assign.node, {known})]
        found += [t.name for t in targets if isinstance(t, nodes.Name) and t.name not in found]
    return found


def _content_of(node: nodes.Node, message: set[str]) -> bool:
    """Tell whether an expression is the content of one of these messages, filtered or sliced."""
    node = _bare(node)
    if isinstance(node, nodes.Getitem):
        key = node.arg.value if isinstance(node.arg, nodes.Const) else None
    elif isinstance(node, nodes.Getattr):
        key = node.attr
    else:
        return False
    return key == "content" and isinstance(node.node, nodes.Name) and node.node.name in message


def _name_in(node: nodes.Node, names: set[str]) -> bool:
    node = _bare(node)
    return isinstance(node, nodes.Name) and node.name in names


def _bare(node: nodes.Node) -> nodes.Node:
    """Return what filters, tests and slices are applied to."""
    while isinstance(node, nodes.Filter | nodes.Test) or _is_slice(node):
        if node.node is None:
            break
        node = node.node
    return node


def _is_slice(node: nodes.Node) -> TypeGuard[nodes.Getitem]:
    return isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
