"""`python -m benchmarks.scoring BUNDLE`: scores 100,000 images, undisturbed and killed, and writes a page of it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from PIL import Image

from pipeline import config, data, environment
from pipeline.tensors import Array

ROWS = 100_000
PICTURES = 10_000
KILLS = 3
ROWS_PER_FILE = 1024


class Series(NamedTuple):
    """One command, killed so often before it comes to its end; with −1 one of its workers is, and it goes on."""

    what: str
    source: str
    kills: int = 0
    options: tuple[str, ...] = ()


RAY = ("--ray", "local")
SERIES = (
    Series("Parquet", "parquet"),
    Series("Parquet, killed three times", "parquet", KILLS),
    Series("Parquet, a worker killed", "parquet", -1),
    Series("PNG files", "pictures"),
    Series("PNG files, killed three times", "pictures", KILLS),
    Series("Parquet, Ray", "parquet", 0, RAY),
    Series("Parquet, Ray, killed three times", "parquet", KILLS, RAY),
)
REFERENCE = {"parquet": "Parquet", "pictures": "PNGfiles"}
"""The folder of the undisturbed run by processes."""


class Outcome(NamedTuple):
    """What a series of runs of one command left: the last one's summary, and how they went."""

    what: str
    summary: dict[str, Any]
    killed_at: tuple[int, ...]
    unique: int
    same: int


def main(
    bundle: Annotated[Path, typer.Argument(help="A bundle of a model that takes MNIST's images.")],
    page: Annotated[Path, typer.Option(help="The page to write.")] = Path("artifacts/scoring.md"),
    ray: Annotated[bool, typer.Option(help="Also by Ray Data on this machine.")] = True,
    seed: Annotated[int, typer.Option(help="Of the moments at which runs are killed.")] = 0,
) -> None:
    """Score MNIST's 70,000 images and 30,000 of them again, undisturbed and killed; check that each is there once."""
    moments = random.Random(seed)  # noqa: S311  no secret
    images = _images()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        _write_parquet(images, place / "parquet")
        _write_pictures(images[:PICTURES], place / "pictures")
        found = []
        for series in SERIES:
            if ray or "--ray" not in series.options:
                found.append(_scored(series, bundle, place, moments))
                print(_row(found[-1]), flush=True)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(_page(found), encoding="utf-8")
    print(page.read_text(encoding="utf-8"))
    wrong = [one for one in found if not one.summary["rows"] == one.unique == one.same]
    sys.exit(f"rows are missing, twice or different: {[one.what for one in wrong]}" if wrong else 0)


def _images() -> Array:
    """Return MNIST's 70,000 images and the first 30,000 of them again, [100000, 784]."""
    dataset = data.load(config.Data(name="mnist"), download=False)
    parts = (dataset.train, dataset.validation, dataset.test)
    every = np.concatenate([np.asarray(next(iter(one.inputs.values()))[:]) for one in parts])
    return np.concatenate([every, every])[:ROWS].reshape(ROWS, -1)


def _write_parquet(images: Array, folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    for part, rows in enumerate(np.array_split(np.arange(len(images)), 4)):
        flat = pa.FixedSizeListArray.from_arrays(pa.array(images[rows].reshape(-1)), images.shape[1])
        table = pa.table({"id": rows, "image": flat, "note": [f"note {row}" for row in rows]})
        pq.write_table(table, folder / f"{part}.parquet", row_group_size=10_000)


def _write_pictures(images: Array, folder: Path) -> None:
    for row, pixels in enumerate(images):
        path = folder / f"{row // 1000:02d}" / f"{row:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.reshape(28, 28)).save(path, compress_level=1)


def _scored(series: Series, bundle: Path, place: Path, moments: random.Random) -> Outcome:
    target = place / "".join(filter(str.isalnum, series.what))
    command = [sys.executable, "-m", "pipeline", "score", str(bundle), str(place / series.source), str(target)]
    command += [*series.options, f"--set=score.rows_per_file={ROWS_PER_FILE}"]
    files = (ROWS if series.source == "parquet" else PICTURES) // ROWS_PER_FILE
    killed_at = []
    for _ in range(series.kills):
        with _started(command) as process:
            _wait(target, process, files // (KILLS + 1), moments)
            os.killpg(process.pid, signal.SIGKILL)
        killed_at.append(_files(target))
    with _started(command) as process:
        if series.kills < 0:
            _wait(target, process, files // (KILLS + 1), moments)
            os.kill(_workers(process.pid)[-1], signal.SIGKILL)
            killed_at.append(_files(target))
        process.wait()
    if process.returncode:
        raise SystemExit(f"{series.what}: exit code {process.returncode}")
    summary = json.loads((target / "_summary.json").read_text(encoding="utf-8"))
    unique, same = _checked(target, place / REFERENCE[series.source])
    return Outcome(series.what, summary, tuple(killed_at), unique, same)


@contextmanager
def _started(command: Sequence[str]) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a command in a process group of its own, which ends with the block."""
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(target: Path, process: "subprocess.Popen[bytes]", most: int, moments: random.Random) -> None:
    """Wait until a random number of files more are written, up to `most`, and a random tenth of a second."""
    wanted = _files(target) + moments.randint(1, most)
    while _files(target) < wanted:
        if process.poll() is not None:
            raise SystemExit("the run ended before it was killed")
        time.sleep(0.002)
    time.sleep(moments.random() / 10)


def _files(target: Path) -> int:
    return sum(1 for _ in target.glob("part-*.parquet"))


def _workers(parent: int) -> list[int]:
    """Return the processes that a process has started, by their numbers, without multiprocessing's own."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    return [one for one in map(int, found) if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def _checked(target: Path, reference: Path) -> tuple[int, int]:
    """Return how many ids there are, and how many rows are those of the undisturbed run by processes."""
    import pyarrow.parquet as pq

    columns = ["id", "answer", "error"]
    rows, expected = (
        sorted(zip(*pq.read_table(folder, columns=columns).to_pydict().values(), strict=True))
        for folder in (target, reference)
    )
    return len({row[0] for row in rows}), sum(one == other for one, other in zip(rows, expected, strict=False))


def _row(one: Outcome) -> str:
    said = one.summary
    share = f"{said['share']['share']:.0%}" if isinstance(said["share"], dict) else ""
    killed = ", ".join(map(str, one.killed_at))
    rate = f"{said['rows_per_s']:,.0f}"
    return (
        f"| {one.what} | {said['rows']:,} | {one.unique:,} | {one.same:,} | {killed} | {said['rows_of_this_run']:,} | "
        f"{rate} | {share} | {said['scoring_seconds']:.1f} of {said['seconds']:.1f} |"
    )


def _page(found: Sequence[Outcome]) -> str:
    first = found[0].summary
    share = first["share"]
    limit = f"{share['of_items_per_s']:,.0f} rows/s: {share['words']}" if isinstance(share, dict) else share
    return f"""# Scoring 100,000 images

By `python -m benchmarks.scoring`, on {environment.machine()}; load when it ended {os.getloadavg()[0]:.1f}.
{first["model"]} by {first["runner"]}, batches of {first["batch"]}, {first["workers"]} workers of {first["threads"]} thread,
{ROWS_PER_FILE:,} rows a file. MNIST's 70,000 images and 30,000 of them again, as Parquet (784 numbers a row); {PICTURES:,}
of them as PNG files. Killed: SIGKILL to the whole process group at random moments; then the same command is started again.
Rows of the last run, its rate and time; the limit is {limit}.
As undisturbed: rows with the id and the answer of the run by processes that nothing disturbed.

| | rows | ids | as undisturbed | files there when killed | rows of the last run | rows/s | of the limit | s |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(map(_row, found))}
"""  # noqa: E501


if __name__ == "__main__":
    typer.run(main)
