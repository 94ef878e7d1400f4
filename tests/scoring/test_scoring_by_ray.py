"""Ray Data, a cluster of this machine alone: each row once, though a row kills its actor, and the rest was there."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import ROOT
from deadly_rows import DEADLY, deadly
from numpy.typing import NDArray
from scored_rows import errors, fixed, job, write

from pipeline.errors import ArtifactError, PipelineError
from pipeline.scoring import cluster
from pipeline.scoring.jobs import GIVEN_UP
from pipeline.scoring.progress import Shown

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray's own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_pieces_are_done_by_actors(
    bundle: Path, images: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))  # of the actors
    source = write(tmp_path / "rows.parquet", {"id": np.arange(40), "image": fixed(images)})
    asked, pieces = job(bundle, source, tmp_path / "out", rows_per_file=10, batch_size=8)
    asked = replace(asked, source=deadly(asked.source))
    with asked.open() as opened:
        opened.score(pieces[2], lambda _: None)  # as by a run before, whoever made it
    before = asked.parts.path(pieces[2]).stat().st_mtime_ns
    with cluster.joined("local", 1) as workers, Shown(40, 10) as shown:
        left = [piece for piece in pieces if not asked.parts.done(piece)]
        cluster.score(asked, left, workers, (), shown)
        assert (workers, shown.done) == (1, 40)
        (bundle_copy := tmp_path / "bundle").mkdir()
        elsewhere = replace(asked, bundle=replace(asked.bundle, folder=bundle_copy))
        asked.parts.path(pieces[0]).unlink()
        (bundle_copy / "bundle.json").write_bytes((bundle / "bundle.json").read_bytes())
        with pytest.raises(PipelineError) as caught:
            cluster.score(elsewhere, pieces[:1], workers, (), shown)
        assert isinstance(caught.value, ArtifactError), caught.value
    with asked.open() as opened:
        opened.score(pieces[0], lambda _: None)
    assert asked.parts.path(pieces[2]).stat().st_mtime_ns == before
    table = pq.read_table(tmp_path / "out")
    assert errors(table) == {DEADLY: GIVEN_UP}
    assert table["id"].to_pylist() == list(range(40))
