"""What TensorRT's words about a graph come to: which operator of which Keras layer it is, and what to do."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline import graphs
from pipeline.errors import BuildError, ConfigError
from pipeline.graphs import control_flow

Layers = Mapping[str, str]
"""The Keras layer that each of the exported graph's nodes comes from, by the node's name."""

PLACES_NAMED = 3
"""Of how many nodes an error tells the layer: TensorRT's words may hold the names of very many."""


class Complaint(NamedTuple):
    """What the parser says of one node; of none, where `operator` is empty."""

    operator: str
    node: str
    words: str


def unparsed(model: Path, complaints: Sequence[Complaint], words: Sequence[str], layers: Layers) -> BuildError:
    """Return the error for a graph that the parser refuses; `words` are what was logged meanwhile."""
    homes = _homes(model) if any(one.operator for one in complaints) else {}
    lines = [f"{model}: TensorRT cannot parse the graph:"]
    for one in complaints:
        place = _place(one.operator, one.node, layers.get(homes.get(one.node, (one.node, ""))[0], ""))
        lines += [f"{place}:" if one.operator else "", one.words]
    operators = ", ".join(dict.fromkeys(one.operator for one in complaints if one.operator))
    hint = (
        f"TensorRT has no {operators} of this kind. Replace the layer by one that computes the same of other "
        "operators; ONNX Runtime runs the exported graph as it is."
    )
    return BuildError("\n".join(filter(None, lines if complaints else [*lines, *words])), hint if operators else "")


def unbuilt(model: Path, words: Sequence[str], layers: Layers, features: Sequence[str] = ()) -> BuildError:
    """Return the error for a graph that was parsed and cannot be built; nodes are known by their names in the words.

    `features` are those that were asked for.
    """
    said = "\n".join(words)
    places, kept = _named(model, said, layers)
    if "workspace" in said.lower() or "OutOfMemory" in said:
        hint = "Raise engine.workspace_mib, or leave it out."
    else:
        keep = f'engine.keep_fp32 = ["{kept}"]' if kept else "engine.keep_fp32"
        hint = f"Keep the layer in FP32 with {keep}, or leave this precision out; if fp32 fails too, replace the layer."
    if features:
        hint = (
            f"Leave {', '.join(features)} out of engine.features, or build on a machine with a GPU; TensorRT for RTX "
            "refits engines for one target alone."
        )
    return BuildError(f"{model}: TensorRT cannot build an engine{places}:\n{said}", hint)


def check_sizes(model: Path, words: Sequence[str], layers: Layers) -> None:
    """Raise ConfigError where the model cannot take sizes of the profile.

    Of the smallest and the largest TensorRT only warns: it builds an engine that fails when it is given them.
    """
    for said in words:
        if found := re.search(r"(kMIN|kOPT|kMAX) values", said):
            ends = {"kMIN": "smallest", "kOPT": "best", "kMAX": "largest"}
            places, _ = _named(model, said, layers)
            raise ConfigError(
                f"{model}: the model cannot take its inputs in their {ends[found[1]]} sizes{places}:\n{said}",
                "Change the ranges of the dynamic axes in [engine.ranges], or of the batch in engine.profiles.",
            )


def _named(model: Path, said: str, layers: Layers) -> tuple[str, str]:
    """Return which nodes TensorRT's words name, as a clause, and the Keras layer of the first that has one."""
    homes = _homes(model)
    # Of a fused region TensorRT names the first and the last node, and often the one that is the matter beside it.
    beside = re.sub(r"ForeignNode\[[^\]]*\]", "", said)
    found = [name for name in homes if name in beside] or [name for name in homes if name in said]
    # A name that is part of a longer one there is not what is meant.
    whole = [name for name in found if not any(name != other and name in other for other in found)]
    named = [(name, *homes[name]) for name in sorted(whole, key=said.index)[:PLACES_NAMED]]
    places = [_place(operator, name, layers.get(home, "")) for name, home, operator in named]
    layer = next((layers[home] for _, home, _ in named if home in layers), "")
    return f"; it names {'; '.join(places)}" if places else "", layer


def _homes(model: Path) -> dict[str, tuple[str, str]]:
    """Return for each named node, those in bodies too, the node of the graph itself that it is in, and its operator."""
    nodes = control_flow.walk(graphs.load(model, weights=False).graph)
    return {node.name: (home.name, node.op_type) for node, home in nodes if len(node.name) > 1}


def _place(operator: str, node: str, layer: str) -> str:
    return f"{operator} node {node!r}{f' of the Keras layer {layer!r}' if layer else ''}"
