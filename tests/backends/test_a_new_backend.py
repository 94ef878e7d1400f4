"""One file in `backends/` is enough: a backend that nobody has heard of arrives everywhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, ROOT, read

PLAIN = '''
"""ONNX Runtime by its plain `run`, as a user adds a backend of their own."""

import contextlib

from pipeline import graphs
from pipeline.backends import Bound, Closable, Variant, check_variant, read_model
from pipeline.errors import BackendUnavailable

VARIANTS = {"cpu": Variant("onnx", "cpu")}
ROLE, LABEL, DISTRIBUTIONS, TUNABLE = "exported", "A plain loop", ("onnxruntime",), True


class Plain(Closable):
    device = "cpu"
    settings = {"threads": "library default"}

    def __init__(self, session, proto):
        self._session, self.inputs, self.outputs = session, graphs.inputs(proto), graphs.outputs(proto)

    def run(self, feed):
        self.check_open()
        return {self.outputs[0].name: self._session.run(None, dict(feed))[0]}

    def bind(self, feed):
        raise BackendUnavailable("takes host arrays")


def probe(variant):
    check_variant("plain", variant, VARIANTS)


@contextlib.contextmanager
def load(model, options):
    import onnxruntime

    content = read_model(model, options.sha256).content
    yield Plain(onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]), graphs.load(content))
'''


STAGES = """
import sys
from commands import run_here

for stage in ("engine", "validate", "benchmark", "report"):
    run_here(stage, *sys.argv[1:])
"""
"""In one process: each would spend seconds on importing TensorFlow."""


@pytest.fixture(scope="module")
def house(main_job: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package that has one backend more, and the artifacts of a run."""
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pipeline/backends/plain.py").write_text(PLAIN, encoding="utf-8")
    for stage in ("train", "export"):
        shutil.copytree(main_job / "artifacts" / stage, folder / "artifacts" / stage)
    return folder


def run(folder: Path, *arguments: str) -> str:
    """Run the copied package's command line; return what it printed."""
    return python(folder, "-m", "pipeline", *arguments)


def python(folder: Path, *arguments: str) -> str:
    """Run Python with the copied package; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_backend_that_is_one_file_arrives_everywhere(house: Path) -> None:
    only_fp32 = (*QUICK, "--set=engine.precisions=fp32", "--set=engine.tune=true", "--set=benchmark.batch_sizes=16")
    python(house, "-c", STAGES, *only_fp32)
    tuned = read(house, "engine/fp32/tuning.json")["runners"]
    assert ("plain", "cpu") in {(one["backend"], one["variant"]) for one in tuned}
    judged = {row["runner"]["name"]: row["verdict"] for row in read(house, "validate/parity.json")["runners"]}
    assert judged["plain cpu fp32"] == "pass"
    cells = [cell for cell in read(house, "benchmark/results.json")["cells"] if cell["runner"]["backend"] == "plain"]
    assert {cell["status"] for cell in cells} == {"ok"}
    ranked = [row["runner"] for row in read(house, "benchmark/recommendation.json")["choices"][0]["ranking"]]
    assert "plain cpu fp32" in ranked
    for page in ("report.md", "index.html"):
        assert "plain cpu fp32" in (house / "artifacts/report" / page).read_text(encoding="utf-8")


@pytest.mark.long
def test_it_is_known_to_predict_to_doctor_and_to_loadgen(house: Path) -> None:
    np.save(house / "image.npy", np.zeros((28, 28, 1), np.uint8))
    assert run(house, "predict", "image.npy", "--backend=plain").startswith("plain cpu fp32 on cpu")
    found = json.loads(run(house, "doctor", "--json"))
    assert found["backends"]["plain"] == {
        "label": "A plain loop",
        "versions": found["backends"]["onnxruntime"]["versions"],
        "variants": {"cpu": ""},
    }
    assert "A plain loop cpu" in found["stages"]["benchmark"]
    scenario = ("--scenario=singlestream", "--set=benchmark.seconds=0.2", "--set=loadgen.backend=plain")
    run(house, "benchmark", *QUICK[:-1], *scenario)
    assert read(house, "loadgen/singlestream-performance/result.json")["runner"]["name"] == "plain cpu fp32"
