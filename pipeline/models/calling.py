"""Calling a Keras model by the names of its inputs, whatever their structure, and naming its outputs.

Keras's own names are used: those given to `keras.Input` and to the layers that end the model, or a dictionary's keys.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pipeline.errors import ArtifactError, DataError, InputError, PipelineError
from pipeline.models import declaring, loading_errors, programs
from pipeline.tensors import Feed, Signature, TensorSpec

Structure = Any
"""What Keras takes and returns: a tensor, or lists, tuples and dictionaries of tensors."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what is raised by a model that is given samples which it cannot take into an InputError.

    TensorFlow raises errors of its own and ValueErrors; a layer, whatever its author did not think of.

    Raises:
        InputError: in TensorFlow's words, as of a number of a class or a word beyond an Embedding's.
    """
    try:
        yield
    except (PipelineError, MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:
        raise InputError(f"TensorFlow cannot run these samples: {loading_errors.words(error)}") from error


class Serving(NamedTuple):
    """A model's inference as a function of tensors in the order of `signature`; it returns a tensor for each name."""

    function: Callable[..., dict[str, tf.Tensor]]
    signature: tuple[tf.TensorSpec, ...]


class Caller(NamedTuple):
    """How a model is called: its inputs, how they are put into the structure it takes, and its outputs' names."""

    inputs: tuple[tf.TensorSpec, ...]
    pack: Callable[[Sequence[Any]], Structure]
    outputs: tuple[TensorSpec, ...]
    results: Structure
    """What the model returns: to pack targets alike."""

    def arguments(self, feed: Feed) -> Structure:
        """Return arrays by name as the model takes them."""
        return self.pack([feed[spec.name] for spec in self.inputs])

    def expected(self, targets: Feed) -> Structure:
        """Return targets by name as the model returns its outputs."""
        return keras.tree.pack_sequence_as(self.results, [targets[spec.name] for spec in self.outputs])


def caller(model: keras.Model, inputs: Mapping[str, str] | None = None) -> Caller:
    """Return how the model is called.

    Args:
        model: any Keras model.
        inputs: of a model that does not tell them (a subclassed one): type and shape of each, by name.

    Raises:
        DataError: the model's inputs are not known, or it cannot be called with those declared.
    """
    if getattr(model, "inputs", None):
        structure = getattr(model, "_inputs_struct", None)
        if isinstance(model, keras.Sequential):
            structure = model.inputs[0]
        names = _unique(_names(structure, model.inputs))
        specs = tuple(
            tf.TensorSpec(one.shape, one.dtype, name=name) for one, name in zip(model.inputs, names, strict=True)
        )

        def pack_alike(tensors: Sequence[Any]) -> Structure:
            return keras.tree.pack_sequence_as(structure, list(tensors))

        results = model.outputs[0] if isinstance(model, keras.Sequential) else model._outputs_struct
        return Caller(specs, pack_alike, _outputs(model.outputs, _names(results, model.outputs), names), results)
    given = [declaring.declared(text, name) for name, text in (inputs or {}).items()]
    specs = tuple(tf.TensorSpec(one.shape, one.dtype, name=one.name) for one in given) or _built(model)
    order = [spec.name for spec in specs]
    pack = _packer(model, order)
    symbolic = [keras.KerasTensor(spec.shape, spec.dtype.name, name=spec.name) for spec in specs]
    try:
        found = model.compute_output_spec(pack(symbolic)) if model.built else model(pack(symbolic))
    except Exception as error:  # whatever the user's own `call` raises
        raise DataError(
            f"{model.name} cannot be called with {', '.join(str(spec_of(one, one.name)) for one in specs)}: "
            f"{loading_errors.words(error)}",
            f"{declaring.DECLARE} Or mend the model's call().",
        ) from error
    flat = keras.tree.flatten(found)
    return Caller(specs, pack, _outputs(flat, _paths(found), order), found)


class SavedSignature(NamedTuple):
    """A SavedModel's signature `serving_default`; `owner` keeps its variables alive."""

    serving: Serving
    signature: Signature
    owner: Any


def saved_signature(path: Path, *, trust: bool) -> SavedSignature:
    """Load a SavedModel that this pipeline published.

    Digests tell that its files are those that were published, and not who published them: unless the user trusts it
    (`model.trust`), one whose graph reaches beyond the model is not run.

    Raises:
        ArtifactError: it cannot be loaded, or is not trusted and has operators that reach beyond the model.
    """
    if not trust and (reaching := programs.reaching_out(path)):
        raise ArtifactError(
            f"{path} is a program with operators that reach beyond the model: {', '.join(reaching)}; it was not run",
            "If you trust where it comes from: model.trust=true; or, of a bundle, its publisher's key in "
            "deploy.trusted_keys. If not, run the stage that made it, with --force.",
        )
    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ArtifactError(
            f"{path} cannot be loaded as a SavedModel: {error}", "Run the stage that made it."
        ) from error
    function = loaded.signatures["serving_default"]
    specs = tuple(
        tf.TensorSpec(one.shape, one.dtype, name=name) for name, one in function.structured_input_signature[1].items()
    )
    outputs = tuple(spec_of(one, name) for name, one in function.structured_outputs.items())

    def infer(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        given = {spec.name: tensor for spec, tensor in zip(specs, tensors, strict=True)}
        found: dict[str, tf.Tensor] = function(**given)
        return {spec.name: found[spec.name] for spec in outputs}

    known = Signature(tuple(spec_of(one, one.name) for one in specs), outputs)
    return SavedSignature(Serving(infer, specs), known, loaded)


def functional(model: keras.Model, how: Caller) -> keras.Model:
    """Return the model in a form whose file tells its inputs: a subclassed one inside a functional one."""
    if getattr(model, "inputs", None):
        return model
    inputs = [keras.Input(batch_shape=one.shape, dtype=one.dtype.name, name=one.name) for one in how.inputs]
    outputs = named([one.name for one in how.outputs], model(how.pack(inputs)))
    taken = inputs[0] if len(inputs) == 1 else {one.name: one for one in inputs}
    return keras.Model(taken, outputs, name=model.name)


def serving(model: keras.Model) -> Serving:
    """Return what an exporter traces: see `Serving`. Errors as `caller`."""
    how = caller(model)
    names = [spec.name for spec in how.outputs]

    def function(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return named(names, model(how.pack(tensors), training=False))

    return Serving(function, how.inputs)


def named(names: Iterable[str], result: Structure) -> dict[str, Any]:
    """Return the tensors or arrays of a model's result by its outputs' names."""
    return dict(zip(names, keras.tree.flatten(result), strict=True))


def signature(how: Caller) -> Signature:
    """Return what the model takes and returns."""
    return Signature(tuple(spec_of(one, one.name) for one in how.inputs), how.outputs)


def spec_of(tensor: Any, name: str) -> TensorSpec:
    """Return the specification of a TensorFlow or Keras tensor, or of TensorFlow's own specification of one."""
    kind = tf.as_dtype(tensor.dtype)
    return TensorSpec(name, tuple(tensor.shape), np.dtype(kind.as_numpy_dtype))


def _outputs(tensors: Sequence[Any], names: Sequence[str], inputs: Iterable[str]) -> tuple[TensorSpec, ...]:
    """Return the outputs, under names of their own: ONNX has one space for all of a graph's names."""
    unique = _unique([*inputs, *names])[-len(names) :]
    return tuple(spec_of(one, name) for one, name in zip(tensors, unique, strict=True))


def _names(structure: Structure, tensors: Sequence[Any]) -> list[str]:
    """Return a name for each tensor of a functional model: a dictionary's key, or its operation's."""
    if isinstance(structure, dict):
        return _paths(structure)
    return [name_of(one._keras_history.operation.name) for one in tensors]


def _paths(structure: Structure) -> list[str]:
    """Return a name for each tensor of a structure: where it is in it."""
    found = keras.tree.flatten_with_path(structure)
    return [name_of("_".join(map(str, path))) or "output" for path, _ in found]


def name_of(text: str) -> str:
    """Return a name that TensorFlow and ONNX take everywhere."""
    return re.sub(r"\W+", "_", text).strip("_")


def _unique(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found:
            free, number = f"{name}_{number}", number + 1
        found.append(free)
    return found


def _packer(model: keras.Model, names: Sequence[str]) -> Callable[[Sequence[Any]], Structure]:
    """Return how a subclassed model takes several inputs: a list where its `call` takes one argument, by its name."""
    if len(names) == 1:
        taken = next(iter(inspect.signature(model.call).parameters))
        known = getattr(model, "_build_shapes_dict", None) or {}
        as_dictionary = isinstance(known.get("input_shape"), dict) and taken not in names
        return (lambda tensors: {names[0]: tensors[0]}) if as_dictionary else (lambda tensors: tensors[0])
    return lambda tensors: dict(zip(names, tensors, strict=True))


def _built(model: keras.Model) -> tuple[tf.TensorSpec, ...]:
    """Return the inputs that a subclassed model was built with, as its file tells: float32, any batch."""
    shape = (model.get_build_config() or {}).get("input_shape") if model.built else None
    if not isinstance(shape, list | tuple) or not all(isinstance(size, int | None) for size in shape):
        raise DataError(
            f"{model.name} is a subclassed model, {type(model).__name__}, that does not tell its inputs",
            declaring.DECLARE,
        )
    return (tf.TensorSpec((None, *shape[1:]), tf.float32, name="input"),)
