"""Scoring by Spark: what `pyspark.ml.functions.predict_batch_udf` loads and calls. Spark itself is not imported here.

Example:
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql.types import StructType
    from pipeline.scoring import spark

    folder = Path("/shared/bundle")  # where every executor finds it
    answers = predict_batch_udf(
        spark.make_predict_fn(folder),
        return_type=StructType.fromDDL(spark.return_type(folder)),
        batch_size=256,
        input_tensor_shapes=[[28, 28, 1]],  # of encoded pictures: leave it out
    )
    rows.select("id", answers("image").alias("found")).select("id", "found.*").write.parquet(target)

A row with a null is refused by Spark itself before it comes here: `rows.dropna(subset=["image"])`. Spark does a failed
task again as a whole; what was written of it is not committed.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.artifacts.bundle import BundleInput, BundleOutput, BundleRecord
from pipeline.deployment import bundle
from pipeline.deployment.bundle import Bundle
from pipeline.errors import DataError
from pipeline.runners import inference
from pipeline.scoring import answers, columns, feeds, preparing
from pipeline.scoring.feeds import Values
from pipeline.scoring.jobs import opened_by
from pipeline.scoring.scorer import Scorer
from pipeline.tasks.classification import Classification
from pipeline.tensors import Array

Predict = Callable[..., dict[str, Array]]

_OPEN = ExitStack()
"""The sessions of this process: Spark has no end at which to close them."""

TYPES = {
    "bool": "boolean",
    "int8": "tinyint",
    "uint8": "smallint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "float16": "float",
    "float32": "float",
    "float64": "double",
}
"""Spark's types, by NumPy's."""


def make_predict_fn(folder: Path, trusted_keys: Sequence[Path] = ()) -> Callable[[], Predict]:
    """Return what Spark calls once in each of its Python processes: it checks the bundle, loads the model and returns
    the function that answers batches.

    That takes an array [rows, …] for each input of the model, in their order, and returns the columns of `return_type`.

    Args:
        folder: the bundle, where every executor finds it.
        trusted_keys: as `deploy.trusted_keys`; files that every executor finds.
    """
    return partial(_load, folder, tuple(trusted_keys))


def return_type(folder: Path, trusted_keys: Sequence[Path] = ()) -> str:
    """Return the columns of what is returned for a row, as Spark's `StructType.fromDDL` reads them.

    Raises:
        ArtifactError: the bundle is not as it was made.
        DataError: an output's size depends on the sample.
    """
    record = bundle.opened(folder, trusted_keys).record
    fields = []
    for one in _sized(record):
        kind = TYPES[one.dtype]
        fields.append(f"`{one.name}` array<{kind}>")
        if one.task == Classification.NAME:
            prefix = answers.prefix(one, record.outputs)
            fields += [f"`{prefix}answer` string", f"`{prefix}score` double"]
    return ", ".join([*fields, f"{answers.ERROR} string"])


def _load(folder: Path, trusted_keys: tuple[Path, ...]) -> Predict:
    found = bundle.opened(folder, trusted_keys)
    _sized(found.record)
    runner = preparing.first_that_runs(found, found.record.verified).runner
    # Spark has a process for each core, and keeps it.
    opened = opened_by(found, runner, alone=False)
    session = _OPEN.enter_context(opened.open())
    scorer = Scorer(session, preparing.best_batch(runner), inference.limits(opened.record, session))
    return partial(_predict, found, scorer)


def _predict(found: Bundle, scorer: Scorer, *inputs: Array) -> dict[str, Array]:
    record = found.record
    count = len(inputs[0])
    values = {one.name: _values(rows, one) for one, rows in zip(record.inputs, inputs, strict=True)}
    scored = scorer.score(feeds.together(values, count))
    errors = dict(scored.errors)
    columns_: dict[str, Array] = {}
    for one in record.outputs:
        whole = np.zeros((count, answers.size(one) or 0), np.int16 if one.dtype == "uint8" else one.dtype)
        if whole.dtype.kind == "f":
            whole[:] = np.nan
        if len(scored.rows):
            whole[scored.rows] = np.reshape(scored.outputs[one.name], (len(scored.rows), -1))
        columns_[one.name] = whole
        if one.task == Classification.NAME:
            prefix = answers.prefix(one, record.outputs)
            names, scores = np.full(count, None, object), np.full(count, np.nan)
            if len(scored.rows):
                names[scored.rows], scores[scored.rows] = answers.read(one, scored.outputs[one.name])
            columns_ |= {f"{prefix}answer": names, f"{prefix}score": scores}
    return columns_ | {answers.ERROR: np.array([errors.get(row) for row in range(count)], object)}


def _values(rows: Array, one: BundleInput) -> Values:
    """Return what Spark hands over for an input: numbers, in any type; or encoded pictures."""
    if rows.dtype == object and len(rows) and isinstance(rows[0], bytes | bytearray | None):
        return columns.pictures([None if row is None else bytes(row) for row in rows], one)
    return feeds.fitted(np.ascontiguousarray(rows), one.spec)


def _sized(record: BundleRecord) -> tuple[BundleOutput, ...]:
    for one in record.outputs:
        if answers.size(one) is None:
            raise DataError(
                f"{one.name} differs in size, which Spark's predict_batch_udf cannot return", "Use `score`."
            )
    return record.outputs
