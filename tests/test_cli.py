"""The command line as a user meets it: what it imports, what it says to mistakes, and with which exit code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, Run

from pipeline import environment, exporters
from pipeline.stages import STAGES

FRAMEWORKS = (
    "tensorflow",
    "keras",
    "tf2onnx",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "cuda.core",
    "sklearn",
    "scipy",
)


def imported(statement: str) -> set[str]:
    """Return the frameworks that a fresh interpreter has imported after `statement`."""
    code = f"{statement}\nimport sys; print([name for name in {FRAMEWORKS} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(eval(done.stderr.strip().splitlines()[-1]))


def test_help_imports_no_framework_and_not_even_numpy(pipeline: Run) -> None:
    statement = (
        "import sys; sys.argv = ['pipeline', '--help']\n"
        "from pipeline import cli\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "assert 'numpy' not in sys.modules and 'pydantic' not in sys.modules"
    )
    assert imported(statement) == set()
    shown = pipeline("--help").stdout
    assert all(stage in shown for stage in (*STAGES, "predict", "doctor", "config"))


@pytest.mark.parametrize("statement", ["import pipeline.config", "sys.argv = ['pipeline', 'config']; cli.main()"])
def test_the_configuration_is_read_without_the_libraries_of_what_it_names(statement: str) -> None:
    code = (
        f"import sys\nfrom pipeline import cli\ntry: {statement}\nexcept SystemExit as end: assert not end.code\n"
        "assert 'pipeline.config' in sys.modules\n"
        "assert not {'onnx', 'numpy', 'pipeline.precisions'} & set(sys.modules)"
    )
    assert imported(code) == set()


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("pipeline.workflow.run", set()),
        ("pipeline.config", set()),
        ("pipeline.exporters", set()),
        ("pipeline.data", set()),
        ("pipeline.artifacts", set()),
        ("pipeline.doctor", set()),
        ("pipeline.measuring.statistics", set()),
        ("pipeline.predict", set()),
        ("pipeline.stages.benchmark", set()),
        ("pipeline.stages.report", set()),
        ("pipeline.stages.engine", {"onnxruntime", "scipy"}),
        ("pipeline.backends.tensorrt", set()),
        ("pipeline.tasks.classification", set()),
        ("pipeline.judging.choosing", set()),
        ("pipeline.judging.comparing", {"scipy"}),
        ("pipeline.stages.validate", {"scipy"}),
        ("pipeline.precisions.fp16", set()),
        ("pipeline.precisions.int8", set()),
        ("pipeline.quantization.calibration", {"onnxruntime"}),
        ("pipeline.backends.onnxruntime", set()),
        ("pipeline.backends.onnxruntime.session", {"onnxruntime"}),
    ],
)
def test_heavy_imports_stay_in_the_modules_that_may_have_them(module: str, allowed: set[str]) -> None:
    assert imported(f"import {module}") <= allowed


def test_what_all_backends_offer_is_listed_without_their_libraries() -> None:
    code = (
        "from pipeline import backends\nfor name in backends.NAMES: assert backends.get(name).VARIANTS\n"
        "import sys; assert 'openvino' not in sys.modules"
    )
    assert imported(code) == set()


def test_the_engine_stage_never_imports_tensorflow(main_job: Path, tmp_path: Path) -> None:
    everything = "--set=engine.precisions=auto"
    quickly = ("--set=engine.tune=false", f"--set=artifacts={tmp_path / 'artifacts'}")
    arguments = ["pipeline", "engine", everything, *quickly]
    (tmp_path / "artifacts").mkdir()
    for stage in ("train", "export"):
        (tmp_path / "artifacts" / stage).symlink_to(main_job / "artifacts" / stage)
    statement = f"import sys; sys.argv = {arguments}\nfrom pipeline import cli\ncli.main()"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONSAFEPATH", "")
        found = imported(f"try:\n  exec({statement!r})\nexcept SystemExit as end: assert not end.code")
    assert (tmp_path / "artifacts/engine/fp16/model.onnx").is_file()
    assert not found & {"tensorflow", "keras", "tf2onnx"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fly"], 2, ["No such command 'fly'"]),
        (["train", "--set=train.epoch=3"], 2, ["'train.epoch'", "did you mean 'epochs'"]),
        (["train", "--set=train.epochs=many"], 2, ["train.epochs", "many"]),
        (["train", "--set=data.name=cifar"], 2, ["data.name", "'cifar'", "'auto', 'mnist' or 'digits'"]),
        (["engine", "--set=engine.precisions=fp12"], 2, ["unknown precision 'fp12'", "fp16"]),
        (["train", "--config=nowhere.toml"], 2, ["nowhere.toml"]),
        (["train", "--set=data.dir=nowhere"], 2, ["nowhere", "train-images-idx3-ubyte"]),
        (["train", "--set=model.source=nowhere:build"], 2, ["model.source", "nowhere"]),
        (["export"], 3, ["no artifact yet", "make train"]),
        (["engine"], 3, ["no artifact yet", "make train"]),
        (["localise", "--precision=int8"], 3, ["no artifact yet", "make train"]),
        (["localise", "--precision=fp12"], 2, ["unknown precision 'fp12'", "fp16"]),
        (["validate"], 3, ["no artifact yet", "make train"]),
        (["benchmark"], 3, ["no artifact yet", "make train"]),
        (["report"], 3, ["no artifact yet", "make train"]),
        (["predict", "image.png"], 3, ["not been published", "make train"]),
        (["predict", "image.png", "--backend=caffe"], 2, ["unknown backend 'caffe'", "onnxruntime"]),
        (["predict", "image.png", "--precision=fp12"], 2, ["unknown precision 'fp12'", "fp16"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_mistake_is_explained_without_a_traceback(
    pipeline: Run, arguments: list[str], code: int, words: list[str]
) -> None:
    done = pipeline(*arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_gpu_backend_asked_for_by_name_without_a_gpu_exits_with_4(copy: Path, pipeline: Run) -> None:
    if environment.gpus():
        pytest.skip("this machine has a GPU")
    np.save(copy / "image.npy", np.zeros((28, 28, 1), np.uint8))
    for arguments in (
        ("engine", "--force", "--set=engine.flavour=tensorrt"),
        ("predict", "image.npy", "--backend=tensorrt"),
    ):
        done = pipeline(*arguments)
        assert done.returncode == 4, done.stderr
        assert "GPU" in done.stderr or "tensorrt cannot be imported" in done.stderr
    assert (copy / "artifacts/engine/fp32/model.engine").is_file(), "a refused run took the published engines away"


def test_doctor_answers_in_json(pipeline: Run) -> None:
    found = json.loads(pipeline("doctor", "--json").stdout)
    assert found["schema"] == 3
    exporters_found = found["exporters"]
    assert {*exporters_found["versions"], *exporters_found["unavailable"]} == set(exporters.NAMES)
    assert exporters_found["versions"]["tf2onnx"]["tf2onnx"] == environment.version("tf2onnx")
    assert list(found["stages"]) == list(STAGES)
    assert "CPUExecutionProvider" in found["onnxruntime"]["loaded"]
    assert found["tensorflow"]["version"] == environment.version("tensorflow")
    assert found["conflicts"] == []
    if not environment.gpus():
        assert "CUDAExecutionProvider" not in found["onnxruntime"]["loaded"], "what is built in is not what loads"
        assert found["tensorrt"]["tensorrt-rtx"]["runs"] is False
        assert any("no NVIDIA GPU" in line for line in found["missing"])


def test_doctor_answers_in_words(pipeline: Run) -> None:
    shown = pipeline("doctor").stdout
    assert "What each stage will use" in shown
    assert environment.cpu_name() in shown


def test_config_prints_a_file_that_config_reads(pipeline: Run, tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(pipeline("config", "--set=train.epochs=3").stdout, encoding="utf-8")
    assert "epochs = 3" in pipeline("config", "--config=pipeline.toml").stdout
