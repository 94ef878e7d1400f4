"""Taking a model that is no Keras file as it is: a TensorFlow SavedModel, or an ONNX file.

A SavedModel is a program: it can read and write files. One is run only where the user trusts it.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import tensorflow as tf
from google.protobuf.message import DecodeError

from pipeline import graphs
from pipeline.config import Model
from pipeline.errors import BuildError, DataError
from pipeline.models import calling
from pipeline.tensors import Signature, TensorSpec

REACHING_OUT = frozenset(
    {"ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "PyFuncStateless", "EagerPyFunc", "PrintV2", "Save", "Restore"}
    | {"TextLineReaderV2", "FixedLengthRecordReaderV2", "WholeFileReaderV2", "TFRecordReaderV2", "LMDBReader"}
    | {"TextLineDataset", "TFRecordDataset", "FixedLengthRecordDatasetV2", "DeleteFile", "RemoteCall"}
)
"""Operators that touch files, run Python or speak to other machines; those that load the variables are not counted."""

EXTERNAL_LIMIT = 2**31


class Adopted(NamedTuple):
    """What was published below `train/`, and what it takes and returns."""

    file: str
    name: str
    parameters: int | None
    signature: Signature


def saved_model(options: Model, output: Path) -> Adopted:
    """Publish a SavedModel, rewritten with one signature, `serving_default`, whose tensors have names.

    Raises:
        DataError: it is not trusted, it is none, or it has no signature or several.
    """
    path = Path(options.source)
    found = operators(path)
    reaching = sorted(found & REACHING_OUT)
    if not options.trust:
        named = f"; it has operators that reach beyond the model: {', '.join(reaching)}" if reaching else ""
        raise DataError(
            f"model.source {path} is a SavedModel, which is a program that can read and write files{named}",
            "If you trust where it comes from: model.trust=true.",
        )
    function, owner = _signature(path)
    names = [spec.name for spec in _inputs(function)]
    outputs = dict(function.structured_outputs)
    signature = Signature(
        tuple(calling.spec_of(spec, spec.name) for spec in _inputs(function)),
        tuple(calling.spec_of(one, name) for name, one in outputs.items()),
    )

    class Kept(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
        def __init__(self) -> None:
            super().__init__()
            self.owner = owner

        @tf.function(input_signature=_inputs(function))  # type: ignore[untyped-decorator]
        def serve(self, *tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            given: dict[str, tf.Tensor] = function(**dict(zip(names, tensors, strict=True)))
            return given

    module = Kept()
    tf.saved_model.save(module, str(output / "saved_model"), signatures={"serving_default": module.serve})
    variables = getattr(owner, "variables", ())
    parameters = sum(math.prod(one.shape) for one in variables) if variables else None
    return Adopted("train/saved_model", path.name, parameters, signature)


def operators(path: Path) -> set[str]:
    """Return the operators of a SavedModel, read without running it.

    Raises:
        DataError: the folder is no SavedModel.
    """
    found: set[str] = set()
    for meta in _read(path).meta_graphs:
        # Saving and loading the variables is every SavedModel's own business.
        own = {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "ShardedFilespec"}
        every: Iterable[Any] = [meta.graph_def.node, *(one.node_def for one in meta.graph_def.library.function)]
        found |= {node.op for nodes in every for node in nodes} - own
    return found


def _read(path: Path) -> Any:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file, proto = path / "saved_model.pb", SavedModel()
    try:
        proto.ParseFromString(file.read_bytes())
    except (OSError, DecodeError) as error:
        raise DataError(
            f"model.source {path} is no SavedModel: {error}", "Give a folder that holds saved_model.pb."
        ) from error
    return proto


def declared_signature(path: Path) -> Signature:
    """Return what a SavedModel says that it takes and returns, without running it.

    Raises:
        DataError: the folder is no SavedModel, or has no signature.
    """
    known = {key: one for meta in _read(path).meta_graphs for key, one in meta.signature_def.items() if one.inputs}
    if not known:
        raise DataError(f"model.source {path} has no signature", "Save it with signatures=….")
    chosen = known.get("serving_default") or next(iter(known.values()))

    def specs(infos: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            calling.spec_of(
                tf.TensorSpec([size.size if size.size >= 0 else None for size in one.tensor_shape.dim], one.dtype), name
            )
            for name, one in sorted(infos.items())
        )

    return Signature(specs(chosen.inputs), specs(chosen.outputs))


def _signature(path: Path) -> tuple[Any, Any]:
    """Return the only signature of a SavedModel as a function, and what keeps its variables alive."""
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception:  # a Keras 2 optimizer inside, among others: TensorFlow 1's loader reads the graph alone
        try:
            loaded = tf.compat.v1.saved_model.load_v2(str(path), tags=["serve"])
        except Exception as error:
            return _from_graph(path, error)
    signatures = dict(loaded.signatures)
    name = "serving_default" if "serving_default" in signatures else next(iter(signatures), None)
    if name is None:
        raise DataError(f"model.source {path} has no signature", "Save it with signatures=….")
    return signatures[name], loaded


def _from_graph(path: Path, error: Exception) -> tuple[Any, Any]:
    """Return the signature of a SavedModel that only TensorFlow 1's loader reads, its variables as constants."""
    graph = tf.Graph()
    try:
        with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
            meta = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(path))
            known = dict(meta.signature_def)
            known.pop("__saved_model_init_op", None)
            chosen = known.get("serving_default") or next(iter(known.values()))
            names = [tensor.name.split(":")[0] for tensor in chosen.outputs.values()]
            frozen = tf.compat.v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), names)
    except Exception as second:
        raise DataError(
            f"model.source {path} cannot be loaded: {error}; nor by TensorFlow 1's loader: {second}",
            "Save it again with the TensorFlow that made it, or give the .keras or .h5 file.",
        ) from second
    pruned = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(frozen, name=""), [])
    fed = {calling.name_of(key): pruned.graph.get_tensor_by_name(one.name) for key, one in chosen.inputs.items()}
    fetched = {calling.name_of(key): pruned.graph.get_tensor_by_name(one.name) for key, one in chosen.outputs.items()}
    function = pruned.prune(list(fed.values()), fetched)
    function._pipeline_inputs = [tf.TensorSpec(one.shape, one.dtype, name=name) for name, one in fed.items()]
    return _ByName(function, list(fed)), pruned


class _ByName:
    """A pruned graph with the interface of a signature."""

    def __init__(self, function: Any, names: list[str]) -> None:
        self._function, self._names = function, names
        self.structured_outputs = function.structured_outputs
        self.inputs_by_name = function._pipeline_inputs

    def __call__(self, **tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        found: dict[str, tf.Tensor] = self._function(*(tensors[name] for name in self._names))
        return found


def _inputs(function: Any) -> list[tf.TensorSpec]:
    if isinstance(function, _ByName):
        return list(function.inputs_by_name)
    return [
        tf.TensorSpec(one.shape, one.dtype, name=name) for name, one in function.structured_input_signature[1].items()
    ]


def onnx_file(options: Model, output: Path) -> Adopted:
    """Publish an ONNX file, whose weights in other files come into it.

    Raises:
        DataError: it is none, its weights lie outside its folder, or it is not in FP32.
    """
    path = Path(options.source)
    try:
        model = onnx.load(path)
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise DataError(
            f"model.source {path} is no readable ONNX model: {error}",
            "Its external data, if it has any, must lie in the same folder.",
        ) from error
    try:
        graphs.check(model, str(path))
    except BuildError as error:
        raise DataError(f"model.source: {error.message}", "Export it anew.") from error
    if narrow := graphs.narrowed_by(model):
        raise DataError(
            f"model.source {path} is not in FP32: it has {', '.join(narrow)}",
            "Give the FP32 model: the precisions are made from it.",
        )
    signature = Signature(graphs.inputs(model), graphs.outputs(model))
    target = output / "model.onnx"
    if model.ByteSize() < EXTERNAL_LIMIT:
        onnx.save(model, target)
    else:
        raise DataError(f"model.source {path} is larger than 2 GB", "Such models are not supported yet.")
    parameters = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    return Adopted("train/model.onnx", model.graph.name or path.stem, parameters, signature)
