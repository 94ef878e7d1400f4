"""Every example trains its model, and goes through the stages with its own configuration."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from commands import ROOT
from rich.console import Console

from pipeline import runners
from pipeline.artifacts.store import Store
from pipeline.config.loading import load
from pipeline.errors import DataError
from pipeline.stages import STAGES
from pipeline.workflow import run

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SOME = ("diabetes",)
"""Those that go through the stages in `make test`; the others do in `make test-long`, and all in `make examples`."""

EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/pipeline.toml"))

THROUGH = ("diabetes",)
"""The quickest: the others go as far as the export here, and through all stages by `make examples`."""

QUICK = (
    "engine.precisions=fp32,int8",
    "engine.tune=false",
    "validate.batch_sizes=1,7",
    "benchmark.batch_sizes=4",
    "benchmark.seconds=0.02",
    "benchmark.warmup_s=0.01",
    "benchmark.min_samples=2",
    "benchmark.rounds=2",
    "benchmark.allow_failed=true",
)


def model_of(name: str) -> ModuleType:
    """Return an example's module, as `model.imports` names it."""
    return importlib.import_module(f"examples.{name}.model")


def test_there_are_seven_and_each_has_its_page() -> None:
    assert len(EXAMPLES) == 7
    page = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    for name in EXAMPLES:
        assert (ROOT / "examples" / name / "README.md").is_file()
        assert f"]({name}/README.md)" in page


def test_the_notebook_was_run_from_top_to_bottom_and_is_small() -> None:
    path = ROOT / "examples/optimize.ipynb"
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert any("pipeline.optimize(" in "".join(cell["source"]) for cell in cells)
    assert path.stat().st_size < 50_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [one if one in SOME else pytest.param(one, marks=pytest.mark.long) for one in EXAMPLES]
)
def test_an_example_goes_through_the_stages(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example writes below build/examples of the working directory
    monkeypatch.syspath_prepend(str(ROOT))
    model_of(name).main(epochs=2)
    config = load(ROOT / "examples" / name / "pipeline.toml", QUICK)
    stages = STAGES if name in THROUGH else ("train", "export")
    for stage in stages:
        run.run(STAGES[stage], config, Console(quiet=True))
    recorded = json.loads((config.artifacts / "train/model.json").read_text(encoding="utf-8"))
    assert recorded["trained_epochs"] == 0, "it is adopted as it is"
    tested = json.loads((config.artifacts / "train/history.json").read_text(encoding="utf-8"))["test"]
    assert [one["output"] for one in tested] == [one["name"] for one in recorded["outputs"]]
    if config.model.imports:  # a runner's process has only what it imports itself
        published = Store(config.artifacts).published()
        first, *_ = runners.original(published, ("no_such_module",), 1)
        with pytest.raises(DataError, match="no_such_module"), first.open():
            pass
    if name in THROUGH:
        cells = json.loads((config.artifacts / "benchmark/results.json").read_text(encoding="utf-8"))["cells"]
        assert [cell["reason"] for cell in cells if cell["status"] == "failed"] == []
        page = (config.artifacts / "report/report.md").read_text(encoding="utf-8")
        assert all(one["metric"] in page for one in tested)
        assert "McNemar" not in page, "numbers are not right or wrong"
        assert "image" not in page
