"""Taking a model that is no Keras file as it is: a TensorFlow SavedModel, or an ONNX file.

A SavedModel is a program: it can read and write files. One is run only where the user trusts it.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from pipeline import backends, graphs
from pipeline.backends import LoadOptions
from pipeline.config import Model
from pipeline.errors import ArtifactError, BackendUnavailable, BuildError, DataError, PipelineError
from pipeline.graphs import external, files
from pipeline.models import calling, declaring, programs
from pipeline.tensors import Signature, TensorSpec

OTHER_OPERATORS = "Export it anew, with operators and an operator set of ONNX's own that ONNX Runtime has."

DEFAULT = "serving_default"
"""The signature that is taken where there are several."""


class Adopted(NamedTuple):
    """What was published below `train/`, and what it takes and returns."""

    file: str
    name: str
    parameters: int | None
    signature: Signature


def saved_model(options: Model, output: Path) -> Adopted:
    """Publish a SavedModel, rewritten with one signature, `serving_default`, whose tensors have names.

    Raises:
        DataError: it is not trusted, it is none, or none of its signatures is the one to take.
    """
    path = Path(options.source)
    reaching = reaching_out(path)
    if not options.trust:
        named = f"; it has operators that reach beyond the model: {', '.join(reaching)}" if reaching else ""
        raise DataError(
            f"model.source {path} is a SavedModel, which is a program that can read and write files{named}",
            "If you trust where it comes from: model.trust=true.",
        )
    function, owner = _signature(path, options.signature)
    names = [spec.name for spec in _inputs(function)]
    # What the graph's own operators may not tell of a shape, the signature does.
    shapes = {spec.name: spec.shape for spec in declared_signature(path, options.signature).outputs}
    outputs = {
        name: tf.TensorSpec(shapes.get(name, one.shape) if one.shape.rank is None else one.shape, one.dtype)
        for name, one in function.structured_outputs.items()
    }
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
            return {name: tf.ensure_shape(given[name], one.shape) for name, one in outputs.items()}

    module = Kept()
    tf.saved_model.save(module, str(output / "saved_model"), signatures={"serving_default": module.serve})
    variables = getattr(owner, "variables", ())
    parameters = sum(math.prod(one.shape) for one in variables) if variables else None
    return Adopted("train/saved_model", path.name, parameters, signature)


def reaching_out(path: Path) -> list[str]:
    """Return the operators of a SavedModel that reach beyond it, as `programs.reaching_out`.

    Raises:
        DataError: the folder is no SavedModel.
    """
    found: list[str] = _found(programs.reaching_out, path)
    return found


def _found(look: Callable[[Path], Any], path: Path) -> Any:
    try:
        return look(path)
    except ArtifactError as error:
        raise DataError(f"model.source {error.message}", error.hint) from error


def declared_signature(path: Path, asked: str = "") -> Signature:
    """Return what a SavedModel says that it takes and returns, without running it.

    Raises:
        DataError: the folder is no SavedModel, or has no signature.
    """
    known = {
        key: one
        for meta in _found(programs.read, path).meta_graphs
        for key, one in meta.signature_def.items()
        if one.inputs
    }
    if not known:
        raise DataError(f"model.source {path} has no signature", "Save it with signatures=….")
    chosen = known.get(asked) or known.get(DEFAULT) or next(iter(known.values()))

    def specs(infos: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            calling.spec_of(
                tf.TensorSpec([size.size if size.size >= 0 else None for size in one.tensor_shape.dim], one.dtype),
                calling.name_of(name),
            )
            for name, one in sorted(infos.items())
        )

    return Signature(specs(chosen.inputs), specs(chosen.outputs))


def _signature(path: Path, asked: str) -> tuple[Any, Any]:
    """Return a signature of a SavedModel as a function, and what keeps its variables alive."""
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception:  # a Keras 2 optimizer inside, among others: TensorFlow 1's loader reads the graph alone
        try:
            loaded = tf.compat.v1.saved_model.load_v2(str(path), tags=["serve"])
        except Exception as error:
            return _from_graph(path, asked, error)
    signatures = dict(loaded.signatures)
    return signatures[_chosen(path, list(signatures), asked)], loaded


def _chosen(path: Path, names: Sequence[str], asked: str) -> str:
    """Return the signature to take: the one asked for, else `serving_default`, else the only one."""
    if not names:
        raise DataError(f"model.source {path} has no signature", "Save it with signatures=….")
    if asked and asked not in names:
        raise DataError(f"model.signature = {asked!r}, and {path} has {', '.join(names)}", "Name one of them.")
    if asked or DEFAULT in names or len(names) == 1:
        return asked or (DEFAULT if DEFAULT in names else names[0])
    raise DataError(
        f"model.source {path} has {len(names)} signatures, {', '.join(names)}, and none is {DEFAULT}",
        f"Name the one to take, as model.signature={names[0]}.",
    )


def _from_graph(path: Path, asked: str, error: Exception) -> tuple[Any, Any]:
    """Return the signature of a SavedModel that only TensorFlow 1's loader reads, its variables as constants."""
    graph = tf.Graph()
    try:
        with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
            meta = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(path))
            known = dict(meta.signature_def)
            known.pop("__saved_model_init_op", None)
            chosen = known[_chosen(path, list(known), asked)]
            names = [tensor.name.split(":")[0] for tensor in chosen.outputs.values()]
            frozen = tf.compat.v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), names)
    except DataError:
        raise
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
    """Publish an ONNX file, with the weights that it has in other files.

    Raises:
        DataError: it is none, its weights lie outside its folder, it is in 16 bits, takes or returns what is no numbers
            or larger than any memory, or ONNX Runtime, which runs the original, does not know an operator.
    """
    path, published = Path(options.source), output / "model.onnx"
    try:
        model = graphs.load(path)
        graphs.check(model, f"model.source {path}")
        signature = Signature(graphs.inputs(model), graphs.outputs(model))
        declaring.check({}, signature)
        narrow = graphs.narrowed_by(model)
        files.save(model, published)
        with backends.get("onnxruntime").load(published, LoadOptions("cpu", exact=True)) as session:
            declaring.check({}, Signature(session.inputs, session.outputs))  # it may know more of the sizes
    except ArtifactError as error:
        hint = error.hint if error.hint == external.INSIDE else "Give a file that an ONNX exporter wrote."
        raise DataError(f"model.source {error.message}", hint) from error
    except (BuildError, BackendUnavailable) as error:
        raise DataError(_named(path, error), OTHER_OPERATORS) from error
    if narrow and "DequantizeLinear" not in narrow:
        raise DataError(
            f"model.source {path} is not in FP32: it has {', '.join(narrow)}",
            "Give the FP32 model: the precisions are made from it. One with Q/DQ would be taken as it is.",
        )
    parameters = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    return Adopted("train/model.onnx", model.graph.name or path.stem, parameters, signature)


def _named(path: Path, error: PipelineError) -> str:
    """Return what is said of a model file, with its name."""
    words = " ".join(error.message.split())
    return words if words.startswith("model.source") else f"model.source {path}: {words}"
