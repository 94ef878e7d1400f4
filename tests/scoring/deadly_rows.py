"""Rows of which one ends the process that decodes it, as a flaw of a decoder would; and models that end it."""

import errno
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.scoring.feeds import Samples
from pipeline.scoring.jobs import Job, Opened
from pipeline.scoring.sources.parquet import ParquetRows

DEADLY = 13


@dataclass
class DeadlyRows(ParquetRows):
    """Parquet rows; the one with the id 13 is deadly."""

    def samples(self, table: Any) -> Samples:
        """See Source."""
        tempfile.NamedTemporaryFile(prefix="left", delete=False).close()
        if DEADLY in table["id"].to_pylist():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().samples(table)


@dataclass
class RowsOfAFullDisk(ParquetRows):
    """Parquet rows for which there is no room."""

    def samples(self, table: Any) -> Samples:
        """See Source."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def of_a_full_disk(rows: Any) -> RowsOfAFullDisk:
    """Return the same rows, for which there is no room."""
    return RowsOfAFullDisk(**{one.name: getattr(rows, one.name) for one in fields(rows) if one.init})


def deadly(rows: Any) -> DeadlyRows:
    """Return the same rows, one of them deadly."""
    return DeadlyRows(**{one.name: getattr(rows, one.name) for one in fields(rows) if one.init})


@dataclass(frozen=True)
class DeadlyJob(Job):
    """A job that ends the processes that load its model: as many as there are files in `deaths`."""

    deaths: Path

    @contextmanager
    def open(self) -> Iterator[Opened]:
        """See Job."""
        for death in self.deaths.iterdir():
            death.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)
        with super().open() as opened:
            yield opened


def deadly_to_load(job: Job, deaths: Path, number: int) -> DeadlyJob:
    """Return the same job, deadly to the first processes that load its model."""
    deaths.mkdir()
    for one in range(number):
        (deaths / str(one)).touch()
    return DeadlyJob(**{one.name: getattr(job, one.name) for one in fields(job)}, deaths=deaths)
