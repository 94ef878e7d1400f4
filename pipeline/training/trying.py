"""A model file from elsewhere, loaded and run once in a process that may end by it, before this one loads it."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pipeline import backends, user_code
from pipeline.backends import LoadOptions
from pipeline.config import Model
from pipeline.errors import DataError
from pipeline.models import calling, sources
from pipeline.runners import trial
from pipeline.tensors import Feed, Signature
from pipeline.training import adoption

Shapes = Sequence[tuple[int, ...]]
"""Those of a sample in each of the data's inputs."""

ANOTHER = "Give a file that Keras, or an ONNX exporter, wrote."


def check(options: Model, shapes: Shapes, *, compiled: bool) -> None:
    """Try the configured file, where it is one; a SavedModel runs because its user trusts it, as a function does.

    Raises:
        DataError: it ends the process, takes too long, or needs more memory than there is.
        PipelineError: as who loads it.
    """
    if options.kind not in ("keras", "onnx"):
        return
    work = _onnx_file if options.kind == "onnx" else _keras_file
    try:
        trial.tried(work, options, tuple(shapes), compiled, limit_s=options.trial_s)
    except trial.Ended as error:
        raise DataError(f"model.source {options.source} {error.message}", error.hint or ANOTHER) from error


def _keras_file(options: Model, shapes: Shapes, compiled: bool) -> None:
    for module in options.imports:
        user_code.import_module(module, "model.imports")
    model = sources.find(options, (), 0, compiled=compiled)
    how = calling.caller(model, options.inputs)
    model = calling.functional(model, how)
    how = calling.caller(model)
    _run(lambda: model(how.arguments(_sample(calling.signature(how), shapes)), training=False))


def _onnx_file(options: Model, shapes: Shapes, compiled: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    signature = adoption.onnx_file(options, folder).signature
    with backends.get("onnxruntime").load(folder / "model.onnx", LoadOptions("cpu", exact=True)) as session:
        _run(lambda: session.run(_sample(signature, shapes)))


def _run(run: Callable[[], object]) -> None:
    """Run the model; whether it takes the data is told in better words where it is given them."""
    try:
        run()
    except sources.OUT_OF_MEMORY:
        raise
    except Exception as error:  # of the library, about a sample that is made up
        if "allocate memory" in str(error):  # ONNX Runtime has no error of its own for this
            raise MemoryError(str(error)) from error


def _sample(signature: Signature, shapes: Shapes) -> Feed:
    """Return a sample of zeros for each input; the sizes of dynamic axes are those of data of as many axes, or 1."""
    feed = {}
    for spec in signature.inputs:
        known = next((one for one in shapes if len(one) == len(spec.shape) - 1), ())
        sizes = (1, *known, *[1] * len(spec.shape))
        feed[spec.name] = np.zeros([one or size for one, size in zip(spec.shape, sizes, strict=False)], spec.dtype)
    return feed
