"""SavedModels are programs: what one could reach of the machine is looked up in its file, before any of it runs."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from pipeline.errors import ArtifactError

REACHING_OUT = re.compile(
    "File|PyFunc|Reader|Record|Dataset|Summary|Print|Save|Restore|Checkpoint|Remote|Rpc|Debug|Sql"
    "|ImmutableConst|Remapping|LoadAndRemap|EncodeProto|DecodeProto|Dump|Library|Plugin|BigQuery|Kafka"
)
"""In the names of operators that touch files, run Python, load code or speak to other machines."""

OF_THE_SAVER = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "ShardedFilespec"})
"""Those by which every SavedModel saves and loads its variables: elsewhere in it they reach any file."""

AGAIN = "Give a folder that tf.saved_model.save, or Keras's model.export, wrote."


def read(path: Path) -> Any:
    """Return what is in a SavedModel's `saved_model.pb`; nothing of it runs.

    Raises:
        ArtifactError: the folder is no SavedModel.
    """
    proto = SavedModel()
    try:
        proto.ParseFromString((path / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise ArtifactError(f"{path} is no SavedModel: {error}", AGAIN) from error
    if not proto.meta_graphs:
        raise ArtifactError(f"{path} is no SavedModel: its saved_model.pb holds no graph", AGAIN)
    return proto


def reaching_out(path: Path) -> list[str]:
    """Return the operators of a SavedModel that touch files, run Python or speak to others; it is read, not run.

    Those of the saver count where anything but the saver can come to them.

    Raises:
        ArtifactError: the folder is no SavedModel.
    """
    found: set[str] = set()
    for meta in read(path).meta_graphs:
        functions = {one.signature.name: list(one.node_def) for one in meta.graph_def.library.function}
        nodes = list(meta.graph_def.node)
        everywhere = {node.op for node in [*nodes, *(node for body in functions.values() for node in body)]}
        found |= everywhere - OF_THE_SAVER
        found |= OF_THE_SAVER & set(_operators_beside_the_saver(meta, nodes, functions))
    return sorted(one for one in found if REACHING_OUT.search(one))


def _operators_beside_the_saver(meta: Any, nodes: list[Any], functions: dict[str, list[Any]]) -> Iterator[str]:
    """Yield the operators that a signature, or a function that the loaded object offers, can come to."""
    wanted = {_node(tensor.name) for one in meta.signature_def.values() for tensor in one.outputs.values()}
    by_name = {node.name: node for node in nodes}
    reached: set[str] = set()
    calls: list[str] = [*meta.object_graph_def.concrete_functions]
    while wanted:
        name = wanted.pop()
        if name in reached or name not in by_name:
            continue
        reached.add(name)
        node = by_name[name]
        yield node.op
        calls += _called(node, functions)
        wanted |= {_node(one) for one in node.input}
    seen: set[str] = set()
    while calls:
        function = calls.pop()
        if function in seen or function not in functions:
            continue
        seen.add(function)
        for node in functions[function]:
            yield node.op
            calls += _called(node, functions)


def _called(node: Any, functions: Iterable[str]) -> list[str]:
    """Return the functions that a node may call: as an operator, or named by an attribute."""
    named = [one.func.name for one in node.attr.values()] + [
        function.name for one in node.attr.values() for function in one.list.func
    ]
    return [name for name in (node.op, *named) if name in functions]


def _node(tensor: str) -> str:
    """Return the name of the node of `^name`, `name` or `name:0`."""
    return tensor.removeprefix("^").partition(":")[0]
