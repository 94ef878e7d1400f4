"""Scoring in this process, and inputs to score."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import Config
from pipeline.config.deploying import Score
from pipeline.deployment import bundle as bundles
from pipeline.scoring import plan, preparing, sources, summary
from pipeline.scoring.jobs import Job
from pipeline.scoring.parts import Parts
from pipeline.scoring.plan import Piece
from pipeline.scoring.preparing import Wanted

Images = NDArray[np.uint8]


def job(folder: Path, source: Path, target: Path, **options: Any) -> tuple[Job, list[Piece]]:
    """Return what `score` sends to its processes, and the pieces."""
    target.mkdir(exist_ok=True)
    wanted = Wanted(bundles.opened(folder), source, target, Config(score=Score(**options)), None)
    rows = sources.find(source, target, wanted.bundle.record, wanted.config.score.id_column)
    runner = preparing.chosen(wanted).runner
    planned = preparing.plan(wanted, rows, runner)
    plan.begin(target, planned)
    batch = options.get("batch_size") or preparing.best_batch(runner)
    return Job(wanted.bundle, runner, batch, True, rows, Parts(target, "plan")), plan.pieces(planned)


def scored(folder: Path, source: Path, target: Path, **options: Any) -> Any:
    """Score in this process; return the output in the order of the input, a pyarrow table."""
    asked, pieces = job(folder, source, target, **options)
    with asked.open() as opened:
        for piece in pieces:
            opened.score(piece, lambda _: None)
    summary.counted(asked, plan.Plan.read(target / plan.FILE), pieces)
    return pa.concat_tables([pq.read_table(asked.parts.path(piece)) for piece in pieces])


def write(path: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    """Write a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, **options)
    return path


def fixed(images: Images) -> Any:
    """Return images as a column of fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), images[0].size)


def png(image: Images) -> bytes:
    """Return an image [height, width, 1] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "PNG")
    return file.getvalue()


def numbers(column: Any) -> NDArray[np.float32]:
    """Return a column of lists without nulls as an array [rows, …]."""
    return np.array(column.to_pylist(), np.float32)


def errors(table: Any) -> dict[int, str]:
    """Return the reasons by row, and check that such rows have no answers and all others have."""
    found = {row: reason for row, reason in enumerate(table["error"].to_pylist()) if reason}
    for name in ("probabilities", "answer", "score"):
        missing = {row for row, value in enumerate(table[name].to_pylist()) if value is None}
        assert missing == found.keys(), name
    return found


def lists(images: Images) -> Sequence[Any]:
    """Return images as Python lists of all their numbers."""
    return [image.reshape(-1).tolist() for image in images]
