"""Which optimization profiles the engine stage gives an engine."""

from pathlib import Path

import pytest
from small_models import Stage

from pipeline.artifacts.engine import EngineRecord
from pipeline.artifacts.store import Store
from pipeline.runners import runners

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def test_profiles_follow_the_benchmarks_batches_or_are_as_configured(stage: Stage, tmp_path: Path) -> None:
    def engine(options: dict[str, object]) -> tuple[str, list[tuple[int, int, int]], tuple[int, int]]:
        """Build, and return what was said, the recorded profiles, and the batches that the engine's runner takes."""
        said = stage("engine", {"engine.precisions": ["fp32"]} | options)
        published = Store(tmp_path / "artifacts").published()
        record = published.read(EngineRecord, "engine/fp32/engine.json")
        (runner,) = (one for one in runners(published, "serve", modules=(), threads=1) if one.record.batches)
        assert runner.record.batches is not None
        batches = runner.record.batches.smallest, runner.record.batches.largest
        return said, [(one.min, one.opt, one.max) for one in record.profiles], batches

    stage("train")
    stage("export")
    said, profiles, batches = engine({"benchmark.batch_sizes": [4, 1, 16]})
    assert "engines take batches of 1; 2 to 4, fastest at 4; 5 to 16, fastest at 16, as benchmark.batch_sizes" in said
    assert profiles == [(1, 1, 1), (2, 4, 4), (5, 16, 16)]
    assert batches == (1, 16)
    said, _, _ = engine({"benchmark.batch_sizes": [4, 1, 16], "benchmark.rounds": 3})
    assert "up to date" in said, "what else the benchmark is told makes no other engine"
    said, profiles, batches = engine({"engine.profiles": [[8, 8, 32], [2, 4, 7]]})
    assert "engines take batches of 8 to 32, fastest at 8; 2 to 7, fastest at 4" in said
    assert profiles == [(8, 8, 32), (2, 4, 7)]
    assert batches == (2, 32)
