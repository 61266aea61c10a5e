"""YAML that people wrote, without what can be turned against the reader."""

from typing import Any

import yaml

# Values that a document may stand for; a configuration has tens.
MOST_VALUES = 100_000


def read_yaml(text: str) -> Any:
    """The value of a YAML text of plain values.

    Raises:
        yaml.YAMLError: If it is none, has tags of Python, or stands for too many values: ten lines
            of aliases of aliases are a billion once they are written out.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and _values(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES} values")
        return yaml.safe_load(text)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for; one that holds itself stands for too many."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MOST_VALUES + 1
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    known[id(node)] = 1 + sum(_values(child, known) for child in children)
    return known[id(node)]
