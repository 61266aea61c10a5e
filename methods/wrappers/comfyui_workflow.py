"""Workflows of ComfyUI in API format, and the nodes in them that stand for parts of a request.

A node is found by its title (double click on its head in the editor), in any case:

    prompt            a text encoder or a string: the prompt of the case
    negative prompt   the same: the argument `negative_prompt`, where it is given
    reference         Load Image: the reference; `reference 1`, `reference 2`, ... for several
    original, edited  Load Image: of an edit, the image before and after it
    seed              a sampler, a noise or an integer
    size              a node with width and height, for cases that state a size
    output            Save Image or Preview Image: whose image is the answer

`output` and one of `prompt`, `reference` and `edited` are needed. Several nodes may be called
`prompt`, `negative prompt`, `seed` or `size`: they all get the value.
"""

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXTS = ("text", "prompt", "value", "string", "text_g", "text_l", "clip_g", "clip_l", "t5xxl")
SEEDS = ("seed", "noise_seed", "value")
EXPORT = "export it with Workflow > Export (API)"

# What a title stands for -> the inputs that may take the value.
INPUTS = {
    "prompt": TEXTS,
    "negative prompt": TEXTS,
    "reference": ("image",),
    "original": ("image",),
    "edited": ("image",),
    "seed": SEEDS,
    "size": ("width", "height"),
}

Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Slot:
    """Inputs of one node that take a value."""

    node: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Workflow:
    """A workflow and where the parts of a request go.

    `slots` maps a title to the places of its value, one per node; "reference" has one place per
    reference, in order. `output` is the id of the node with the answer.
    """

    graph: Graph
    slots: Mapping[str, Sequence[Slot]]
    output: str

    @property
    def references(self) -> int:
        """How many references it takes."""
        return len(self.slots["reference"])

    def has(self, title: str) -> bool:
        """Whether a node has this title."""
        return bool(self.slots[title])

    def filled(self, values: Mapping[str, Any], references: Sequence[str] = ()) -> Graph:
        """The graph with values in place, as the server takes it.

        `values` maps titles to what goes there, "size" to (width, height). A title without a value
        keeps what the workflow has.
        """
        graph = copy.deepcopy(self.graph)
        for title, value in values.items():
            for slot in self.slots[title]:
                for position, name in enumerate(slot.inputs):
                    given = value[position] if title == "size" else value
                    graph[slot.node]["inputs"][name] = given
        for slot, name in zip(self.slots["reference"], references, strict=True):
            graph[slot.node]["inputs"]["image"] = name
        return graph

    def sha256(self, *, negative_given: bool) -> str:
        """Of all that can move a pixel: what requests replace, titles and layout are left out."""
        replaced = ["prompt", "original", "edited", "seed"]
        replaced += ["negative prompt"] if negative_given else []
        values = dict.fromkeys(replaced, "")
        graph = self.filled(values, [""] * self.references)
        plain = {
            node: {key: value for key, value in entry.items() if key != "_meta"}
            for node, entry in graph.items()
        }
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    def called(self, node: str) -> str:
        """A node as people find it in the editor."""
        return described(self.graph, node)


def described(graph: Graph, node: str) -> str:
    """Title, class and id of a node."""
    entry = graph.get(node)
    if entry is None:
        return f"node {node}"
    return f"node {_title(entry) or entry['class_type']!r} ({entry['class_type']}, {node})"


def read_workflow(path: Path) -> Workflow:
    """Reads a workflow in API format and finds its named nodes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no workflow in API format, a needed node is missing or two have one
            title, or a named node has no input of its own for the value.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no workflow {path}")
    graph = _graph(path)
    named: dict[str, list[str]] = {}
    for node, entry in graph.items():
        named.setdefault(_title(entry).casefold(), []).append(node)
    output = named.get("output", [])
    if len(output) != 1:
        raise ValueError(
            f"{path} has {len(output) or 'no'} nodes with the title 'output', one is needed: call "
            f"the node that saves the image so; {_titles(graph)}"
        )
    slots: dict[str, Sequence[Slot]] = {}
    for title, inputs in INPUTS.items():
        nodes = _references(path, named) if title == "reference" else named.get(title, [])
        if title in ("original", "edited") and len(nodes) > 1:
            raise ValueError(f"{path} has {len(nodes)} nodes with the title {title!r}")
        slots[title] = [_slot(path, graph, title, node, inputs) for node in nodes]
    if not (slots["prompt"] or slots["reference"] or slots["edited"]):
        raise ValueError(
            f"{path} has no node with the title 'prompt', 'reference' or 'edited': nothing of a "
            f"case would reach it; {_titles(graph)}"
        )
    return Workflow(graph=graph, slots=slots, output=output[0])


def _graph(path: Path) -> Graph:
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("nodes"), list):
        raise ValueError(f"{path} is a workflow as the editor saves it; {EXPORT}")
    if not (
        isinstance(document, dict)
        and document
        and all(
            isinstance(entry, dict)
            and isinstance(entry.get("class_type"), str)
            and isinstance(entry.get("inputs"), dict)
            for entry in document.values()
        )
    ):
        raise ValueError(
            f"{path} is no workflow in API format: a mapping from node ids to nodes with "
            f"class_type and inputs; {EXPORT}"
        )
    return document


def _title(entry: Mapping[str, Any]) -> str:
    meta = entry.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    return " ".join(title.split()) if isinstance(title, str) else ""


def _titles(graph: Graph) -> str:
    titles = sorted({title for entry in graph.values() if (title := _title(entry))})
    if not titles:
        return f"it has no titles at all; {EXPORT} from a ComfyUI of 2024 or later"
    return f"its titles: {', '.join(titles)}"


def _references(path: Path, named: Mapping[str, Sequence[str]]) -> list[str]:
    """The reference nodes in order: `reference` alone, or `reference 1` and on without a gap."""
    found: dict[int, list[str]] = {}
    for title, nodes in named.items():
        match = re.fullmatch(r"reference(?: ([1-9][0-9]*))?", title)
        if match:
            found.setdefault(int(match[1] or 1), []).extend(nodes)
    for number, nodes in found.items():
        if len(nodes) > 1:
            raise ValueError(
                f"{path} has {len(nodes)} nodes for reference {number}; "
                "call them 'reference 1', 'reference 2', ..."
            )
    if sorted(found) != list(range(1, len(found) + 1)):
        numbers = ", ".join(map(str, sorted(found)))
        raise ValueError(f"{path} has nodes for the references {numbers}; count from 1")
    return [found[number][0] for number in sorted(found)]


def _slot(path: Path, graph: Graph, title: str, node: str, inputs: Sequence[str]) -> Slot:
    given = graph[node]["inputs"]
    # A list is a connection to another node: that node decides.
    own = tuple(name for name in inputs if name in given and not isinstance(given[name], list))
    if not own or (title == "size" and len(own) < 2):
        connected = [name for name in inputs if isinstance(given.get(name), list)]
        hint = (
            f"{', '.join(connected)} comes from another node: give that one the title"
            if connected
            else f"it has {', '.join(given) or 'no inputs'}"
        )
        raise ValueError(
            f"{path}: {described(graph, node)} takes no {title}: it needs "
            f"{' and '.join(inputs) if title == 'size' else 'one of ' + ', '.join(inputs)}; {hint}"
        )
    return Slot(node, own)
