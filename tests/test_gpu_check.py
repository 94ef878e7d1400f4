"""The GPU check: what runs its steps, what they find, and the whole of it on a machine without a GPU."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_gpu
import numpy as np
import pytest
from commands import PYTHONPATH

from benchmarks import ranges
from benchmarks.gpu_check import device, page, precisions, running, steps, timings, training_table
from benchmarks.gpu_check.records import Check, DeviceRun, GpuTests, Library, PrecisionRun, Result, TimedRun, write
from benchmarks.gpu_check.steps import Step
from benchmarks.training import table
from pipeline import backends, environment
from pipeline import precisions as formats
from pipeline.artifacts.results import Peaks
from pipeline.environment import Gpu, Machine
from pipeline.errors import BackendUnavailable, PipelineError
from pipeline.measuring.cells import Schedule

H100 = Gpu("NVIDIA H100", "580.1", 81_559, "9.0")
PLENTY = 1000.0


def python(code: str, limit_s: float = 30, **changes: object) -> Step:
    return Step("a-step", "a step", ("-c", code), limit_s, **changes)  # type: ignore[arg-type]


def check_of(*results: Result, gpus: tuple[Gpu, ...] = (H100,)) -> Check:
    machine = Machine("a CPU", 16, "Linux", gpus)
    return Check("2026-11-27 12:00 UTC", 1200, False, machine, {"python": "3.12"}, (), results, 60)


def result(step: str, found: object = None, status: str = "passed", **changes: object) -> Result:
    fields: dict[str, object] = {"what": "what", "reason": "", "command": (), "seconds": 10.0, "found": found}
    return Result(step=step, status=status, **(fields | changes))  # type: ignore[arg-type]


# --- running a step ---------------------------------------------------------------------------------------------------


def test_what_a_step_said_and_found_is_kept(tmp_path: Path) -> None:
    code = "import os, pathlib; print('said'); pathlib.Path(os.environ['F']).write_text('[1, 2]')"
    step = python(code, found="found.json", variables={"F": str(tmp_path / "found.json")})
    found = running.run(step, tmp_path, PLENTY)
    assert (found.status, found.reason, found.exit_code, found.found) == ("passed", "", 0, [1, 2])
    assert (tmp_path / found.log).read_text() == "said\n"


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("print('note: three of four')", "passed", "three of four"),
        ("raise ValueError('a bug')", "failed", "exit code 1: ValueError: a bug"),
        ("print('error: no such thing\\n  Do this.'); exit(2)", "failed", "exit code 2: no such thing Do this."),
        ("print('error: no GPU'); exit(4)", "skipped", "no GPU"),
        ("import no_such_library", "skipped", "cannot be imported: No module named 'no_such_library'"),
        ("raise ImportError('libcudart.so: not there')", "skipped", "cannot be imported: libcudart.so: not there"),
        ("import pipeline.no_such_module", "failed", "No module named 'pipeline.no_such_module'"),
        ("from json import no_such_name", "failed", "cannot import name 'no_such_name'"),
        ("import os; os.abort()", "failed", "ended by SIGABRT"),
        ("exit(3)", "failed", "exit code 3: it said nothing"),
    ],
)
def test_a_step_ends_with_a_reason(code: str, status: str, reason: str, tmp_path: Path) -> None:
    found = running.run(python(code), tmp_path, PLENTY)
    assert found.status == status
    assert reason in found.reason


def test_a_step_without_end_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "GRACE_S", 0.5)
    code = """import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)"""
    found = running.run(python(code, limit_s=2), tmp_path, PLENTY)
    assert (found.status, found.exit_code) == ("failed", None)
    assert found.reason.startswith("not done within 2 s")
    assert found.seconds < 30
    assert not alive(int((tmp_path / found.log).read_text()))


def test_a_step_that_leaves_something_running_ends_it(tmp_path: Path) -> None:
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)"
    found = running.run(python(code), tmp_path, PLENTY)
    assert found.status == "passed"
    assert not alive(int((tmp_path / found.log).read_text()))


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for, a zombie, does not."""
    for _ in range(50):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return False
        except FileNotFoundError:
            return False
        time.sleep(0.1)
    return True


def test_when_its_time_is_over_a_step_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "GRACE_S", 10.0)
    monkeypatch.setattr(running, "SHORTEST_S", 0.1)
    code = """import time
try:
    print("begun", flush=True); time.sleep(600)
except KeyboardInterrupt:
    print("kept")"""
    found = running.run(python(code, limit_s=500), tmp_path, 13.0)
    assert (found.status, found.limit_s) == ("out of time", 3.0)
    assert (tmp_path / found.log).read_text() == "begun\nkept\n"
    assert "kept" in found.reason


def test_with_no_time_left_nothing_is_begun(tmp_path: Path) -> None:
    found = running.run(python("raise SystemExit(1)"), tmp_path, running.GRACE_S + running.SHORTEST_S - 1)
    assert (found.status, found.seconds) == ("out of time", 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("step", "gpu", "rehearsal", "reason"),
    [
        (python(""), False, True, "no NVIDIA GPU"),
        (python(""), True, False, ""),
        (python("", where="anywhere"), False, False, ""),
        (python("", where="rehearsal"), False, False, "--rehearse"),
        (python("", where="rehearsal"), False, True, ""),
        (python("", sees_gpu="jax"), True, False, "jax cannot be imported: no jax"),
        (python("", sees_gpu="tensorflow"), True, False, "tensorflow 2.21 sees no GPU"),
        (python("", sees_gpu="onnxruntime"), True, False, ""),
        (python("", sees_gpu="torch"), True, False, "torch cannot be imported: it was not looked for"),
        (python("", sees_gpu="tensorflow", where="rehearsal"), False, True, ""),
        (python("", reads=("there", "missing")), True, False, "missing is not there"),
    ],
)
def test_a_step_that_cannot_run_says_why(step: Step, gpu: bool, rehearsal: bool, reason: str, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    known = (
        Library("jax", error="no jax"),
        Library("tensorflow", "2.21"),
        Library("onnxruntime", "1.31", gpus="CUDAExecutionProvider"),
    )
    found = running.why_not(step, tmp_path, known, gpu=gpu, rehearsal=rehearsal)
    assert reason in found
    assert bool(found) is bool(reason)


# --- the steps --------------------------------------------------------------------------------------------------------


def test_every_way_to_run_on_a_gpu_has_a_step() -> None:
    every = {
        (name, variant)
        for name in backends.names("exported")
        for variant, offered in backends.get(name).VARIANTS.items()
        if offered.device == "cuda"
    }
    assert set(steps.RUNNERS) == every


def test_steps_have_names_of_their_own_and_what_they_read_is_made_before(tmp_path: Path) -> None:
    listed = list(steps.steps(tmp_path, (H100,), rehearsal=False))
    assert len({step.name for step in listed}) == len(listed)
    made = {str(tmp_path / "mnist.npz")}
    for step in listed:
        for path in step.reads:
            stage = path.split("/")[1] if path.startswith("run/") else ""
            assert (
                (stage in {one.name for one in listed[: listed.index(step)]}) if stage else str(tmp_path / path) in made
            )
    assert {step.variables.get("REQUIRE_GPU") for step in listed if step.name == "tests"} == {"1"}


@pytest.mark.parametrize(
    ("capability", "policy", "wide", "narrow"),
    [("9.0", "mixed_bfloat16", "tf32", "bf16"), ("7.5", "mixed_float16", "fp32", "fp16")],
)
def test_what_is_trained_fits_the_gpu(capability: str, policy: str, wide: str, narrow: str) -> None:
    every = steps.trainings((Gpu("a GPU", "1", 1, capability),))
    assert {one.policy for one in every} == {"float32", policy}
    assert {(one.policy, one.limit) for one in every} == {("float32", wide), (policy, narrow)}


def test_the_device_step_brings_bytes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = fake_gpu.Gpu()
    monkeypatch.setattr(environment, "gpus", lambda: ["a fake GPU"])
    for name in ("cuda", "cuda.core"):
        monkeypatch.setitem(sys.modules, name, fake_gpu.modules(gpu, None)[name])
    path = tmp_path / "found.json"
    device.main(path, nbytes=1000)
    found = DeviceRun(**json.loads(path.read_text()))
    assert (found.name, tuple(found.compute_capability), found.nbytes) == ("A fake GPU", (8, 9), 1000)
    assert found.to_ns > 0
    assert found.back_ns > 0

    real = fake_gpu.Buffer.copy_to

    def damaged(self: fake_gpu.Buffer, destination: fake_gpu.Buffer, *, stream: fake_gpu.Stream) -> None:
        real(self, destination, stream=stream)
        stream.put("damage", lambda: np.add(byte := gpu.at(destination.handle, 1), 1, out=byte))

    monkeypatch.setattr(fake_gpu.Buffer, "copy_to", damaged)
    with pytest.raises(PipelineError, match="copied there and back: of 1,000 bytes"):
        device.main(path, nbytes=1000)


def own_step(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check.step", *arguments],
        env=os.environ | {"PYTHONPATH": PYTHONPATH} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_tests_step_counts_and_names(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_some.py").write_text(
        "import warnings\nimport pytest\n"
        "@pytest.mark.gpu\ndef test_good() -> None:\n    warnings.warn('another version')\n"
        "@pytest.mark.gpu\ndef test_bad() -> None:\n    assert 1 == 2, 'the GPU is wrong'\n"
        "@pytest.mark.gpu\ndef test_skipped() -> None:\n    pytest.skip('TensorRT is not there')\n"
        "def test_without_a_gpu() -> None:\n    raise AssertionError\n"
    )
    (folder / "test_needy.py").write_text("import no_such_library\nimport pytest\n# @pytest.mark.gpu\n")
    (folder / "test_other.py").write_text("raise AssertionError('it is not collected')\n")
    path = tmp_path / "found.json"
    done = own_step("gpu_tests", str(path), str(folder))
    assert done.returncode == 1, done.stdout + done.stderr
    assert running.last_words(done.stdout).startswith("1 of the tests marked gpu failed")
    found = GpuTests(**json.loads(path.read_text()))
    assert [name.rpartition("::")[2] for name in found.passed] == ["test_good"]
    ((name, words),) = found.failed.items()
    assert name.endswith("test_bad")
    assert "the GPU is wrong" in words
    assert list(found.skipped.values()) == ["TensorRT is not there"]
    assert list(found.not_importable.values()) == ["ModuleNotFoundError: No module named 'no_such_library'"]


def test_the_tests_step_is_skipped_where_none_could_run(tmp_path: Path) -> None:
    (tmp_path / "test_needy.py").write_text("import no_such_library\nimport pytest\n# @pytest.mark.gpu\n")
    done = own_step("gpu_tests", str(tmp_path / "found.json"), str(tmp_path))
    assert done.returncode == BackendUnavailable.exit_code
    assert "no_such_library" in running.last_words(done.stdout)


def test_the_network_of_the_check_is_quantised_and_its_scores_differ() -> None:
    images = np.random.default_rng(2).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
    exported = precisions.network()
    amax = ranges.largest(exported, {"image": images})
    whole = precisions._on_cpu(formats.get("fp32"), exported, {"image": images})["scores"]
    assert whole.shape == (8, 10)
    assert np.ptp(whole, axis=0).max() > 0.1, "images have scores of their own"
    for name in formats.NAMES:
        precision = formats.get(name)
        typed = precision.apply(exported, amax=amax)
        scores = precisions._on_cpu(precision, typed, {"image": images})["scores"]
        assert precision.tolerance.holds(scores, whole), name
        wrong = np.roll(whole, 1, axis=0)
        assert not precision.tolerance.holds(wrong, whole), "another image's scores would be noticed"


def test_a_runner_that_computes_something_else_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, which stands for a GPU here: what runs is compared, and what it refuses is told."""
    real = precisions._on_cpu
    path = tmp_path / "found.json"
    # ONNX Runtime computes FP8 wrongly on a CPU where it may optimise, as it does here.
    monkeypatch.setattr(formats, "NAMES", ("fp32", "fp16", "bf16", "int8"))
    precisions.main(path, "onnxruntime", "cpu")
    runs = {one["precision"]: PrecisionRun(**one) for one in json.loads(path.read_text())}
    assert list(runs) == list(formats.NAMES)
    assert "Could not find an implementation" in runs["bf16"].refused
    assert runs["fp32"].difference is not None
    assert runs["fp32"].difference < 1e-5
    assert tuple(runs["fp32"].batches) == precisions.BATCHES

    monkeypatch.setattr(precisions, "_on_cpu", lambda *given: {"scores": real(*given)["scores"][::-1]})
    with pytest.raises(PipelineError, match="fp32: at batch 16 it differs from the CPU by"):
        precisions.main(path, "onnxruntime", "cpu")


@pytest.mark.slow
def test_what_ran_right_is_timed_in_its_own_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "NAMES", ("fp32", "bf16", "int8"))
    monkeypatch.setattr(timings, "SCHEDULE", Schedule(seconds=0.05, min_samples=6, rounds=3, warmup_s=0.01))
    monkeypatch.setattr(timings, "BATCHES", (1, 16))
    precisions.main(tmp_path / "onnxruntime-cpu.json", "onnxruntime", "cpu")
    timings.main(tmp_path / "timings.json", "onnxruntime cuda", "onnxruntime cpu")  # the first has left nothing
    found = [TimedRun(**one) for one in json.loads((tmp_path / "timings.json").read_text())]
    names = ("fp32", "fp32 (A/A repeat)", "int8")
    assert [(one.batch, one.runner) for one in found] == [
        (batch, f"onnxruntime cpu {name}") for batch in (1, 16) for name in names
    ]
    assert {(one.status, one.mode) for one in found} == {("ok", "end_to_end")}, "bf16, which did not run, is not timed"
    assert all(one.p50_us and one.calls >= 6 for one in found)
    text = page.render(check_of(result("timings", [one.__dict__ for one in found])), tmp_path)
    assert "| 16 | end_to_end | onnxruntime cpu int8 |" in text
    with pytest.raises(BackendUnavailable, match="none of these ran anything right: tensorrt tensorrt"):
        timings.main(tmp_path / "timings.json", "tensorrt tensorrt")


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_has_every_step_and_words_once() -> None:
    words = "IRuntime::deserializeCudaEngine: Error Code 6\nSupported: 8.0 | 8.6"
    refused = [PrecisionRun(name, False, 1_000, 0.5, refused=words).__dict__ for name in ("fp32", "fp16")]
    ran = [PrecisionRun("int8", True, None, None, (1, 16), 1.5e-3).__dict__]
    check = check_of(
        result("device", DeviceRun("NVIDIA H100", (9, 0), 10**9, 20_000_000, 25_000_000).__dict__),
        result("tensorrt-tensorrt-rtx", refused),
        result("onnxruntime-cuda", ran),
        result("tests", GpuTests(("a", "b"), {"c": "wrong"}, {"d": "no TensorRT"}, {}).__dict__, status="failed"),
        result("jax", status="skipped", reason="sees no GPU", seconds=0.0),
        result("late", status="out of time", reason="over", seconds=0.0),
    )
    text = page.render(check, Path("nowhere"))
    assert text.startswith("# GPU check: NVIDIA H100\n")
    assert "2026-11-27 12:00 UTC, in 1.0 of at most 20 minutes. NVIDIA H100 (compute capability 9.0, 81,559 MiB" in text
    assert "3 passed, 1 failed, 1 skipped, 1 out of time (tests)" in text
    assert "- skipped: sees no GPU: jax" in text
    assert "- out of time: over: late" in text
    assert "50.0 GB/s to the GPU and 40.0 back" in text
    assert "2 passed, 1 failed, 1 skipped" in text
    assert "| tensorrt-tensorrt-rtx | fp16 | 1,000 | 0.5 | no [1] |" in text
    assert "| onnxruntime-cuda | int8 (one profile) |  |  | yes | 1, 16 | 1.5e-03 |" in text
    assert text.count("deserializeCudaEngine") == 1
    assert "> Supported: 8.0 | 8.6" in text


def test_the_page_says_how_trainings_compare() -> None:
    rates = {"tf32": table.MACS * 1e6, "bf16": table.MACS * 2e6}
    limits = result("limits", Peaks(device="cuda:0", threads=None, macs_per_s=rates).model_dump(mode="json"))
    results = [limits, result("data")]
    for seed, (script, fast) in enumerate([(0.980, 0.983), (0.984, 0.985)]):
        found = {"fit_s": 30.0 + seed, "accuracy": script, "samples": 300_000}
        results += [
            result(f"script-tensorflow-{seed}", found),
            result(f"fast-float32-{seed}", history(2.0 + seed, fast)),
        ]
    results += [result("fast-mixed-0", history(1.0, 0.97)), result("script-jax-0", status="failed", reason="a bug")]
    (title, words, text) = training_table.section(check_of(*results), limits)
    assert title == "## Training"
    assert "the script's mean here, 0.9820" in words
    rows = [line for line in text.splitlines() if "float" in line]
    assert rows == [
        "| the article's script | tensorflow | float32 | 2 | 30.50 (30.00 to 31.00) | 10.0 | 0.9820 | 9,839 "
        "| 0.98 % of tf32 | 30.50 |",
        "| ours, recipe fast | tensorflow | float32 | 2 | 2.50 (2.00 to 3.00) | 10.0 | 0.9840 | 45,833 "
        "| 4.6 % of tf32 | 2.50 |",
        "| ours, recipe fast | tensorflow | mixed_bfloat16 | 1 | 1.00 (1.00 to 1.00) | 10.0 | 0.9700 | 110,000 "
        "| 5.5 % of bf16 | not reached |",
    ]
    (*_, alone) = training_table.section(check_of(result("data"), results[3]), None)
    assert "| n/a (tf32) | n/a |" in alone, "without the script and the limits nothing is made up"


def history(seconds: float, accuracy: float) -> dict[str, object]:
    """What a training publishes, of two epochs."""
    epoch = {"measures": {}, "seconds": seconds / 2, "validation_s": 0.0, "waited_s": None, "learning_rate": None}
    test = {"output": "probabilities", "task": "classification", "metric": "accuracy", "value": accuracy}
    own = {"schema": 4, "dataset": "mnist", "backend": "tensorflow", "devices": ["cuda:0"], "recipe": "fast"}
    steps = {"batch": 128, "steps_per_epoch": 430, "steps_per_execution": 10, "learning_rate": 0.015}
    rest = {"schedule": "one_cycle", "in_memory": True, "best_epoch": None, "resumed_at": "", "test_samples": 10_000}
    found = {"epochs": [epoch, epoch], "seconds": seconds, "samples_per_s": 1.0, "test": [test]}
    return {**own, **steps, **rest, **found}


def test_the_pipelines_report_is_a_chapter_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "run/report").mkdir(parents=True)
    (tmp_path / "run/report/report.md").write_text("# What was measured\n\n## Speed\n")
    text = page.render(check_of(), tmp_path)
    assert "\n## What was measured\n\n### Speed\n" in text


def test_a_record_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    for seconds in (1.0, 2.0):
        write(path, check_of(result("a", seconds=seconds)))
    found = json.loads(path.read_text())
    assert (found["schema"], found["machine"]["gpus"][0]["name"]) == (1, "NVIDIA H100")
    assert [one["seconds"] for one in found["results"]] == [2.0]
    assert [one.name for one in path.parent.iterdir()] == ["results.json"]


# --- the whole, without a GPU -----------------------------------------------------------------------------------------


def gpu_check(*arguments: str, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": PYTHONPATH, "CUDA_VISIBLE_DEVICES": "-1"} | variables,
        capture_output=True,
        text=True,
        timeout=900,
    )


def without(*names: str, folder: Path) -> str:
    """Return a PYTHONPATH on which these libraries cannot be imported."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise ImportError({name + ' is blocked'!r})\n")
    return os.pathsep.join([str(folder), PYTHONPATH])


@pytest.mark.long
def test_without_a_gpu_it_ends_well_and_every_skip_has_its_reason(tmp_path: Path) -> None:
    done = gpu_check(cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "artifacts/gpu-check").iterdir()
    found = json.loads((folder / "results.json").read_text())
    status = {one["step"]: one["status"] for one in found["results"]}
    assert list(status) == [step.name for step in steps.steps(folder, (), rehearsal=False)]
    assert set(status.values()) == {"passed", "skipped"}
    assert status["doctor"] == "passed"
    assert all(one["reason"] for one in found["results"] if one["status"] == "skipped")
    text = (folder / "page.md").read_text()
    assert all(name in text for name in status)
    rtx = next(one for one in found["results"] if one["step"] == "tensorrt-tensorrt-rtx")
    if rtx["status"] == "passed":  # there are wheels for this machine: engines were built
        assert {one["precision"] for one in rtx["found"] if one["engine_bytes"]} == set(formats.NAMES)
        assert all("no NVIDIA GPU" in one["refused"] for one in rtx["found"])
    again = gpu_check(f"--output={folder}", cwd=tmp_path)
    assert again.returncode == 2
    assert "not empty" in again.stderr


def test_what_cannot_be_imported_is_said_and_nothing_fails(tmp_path: Path) -> None:
    """As on a machine where the dependencies are a folder on PYTHONPATH, with hardly anything in it."""
    path = without("pydantic", "typer", "tensorflow", "jax", "tensorrt_rtx", folder=tmp_path / "site")
    only = ("doctor", "tensorrt-tensorrt-rtx", "limits", "train", "export", "data", "fast-float32-0")
    arguments = (f"--only={name}" for name in only)
    done = gpu_check("--rehearse", f"--output={tmp_path / 'out'}", *arguments, cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out/results.json").read_text())
    reasons = {one["step"]: one["reason"] for one in found["results"]}
    assert tuple(reasons) == only
    assert {one["status"] for one in found["results"]} == {"skipped"}
    assert "blocked" in reasons["doctor"]
    assert "blocked" in reasons["limits"]
    assert reasons["export"].startswith("run/train/manifest.json is not there")
    libraries = {one["name"]: one["error"] for one in found["libraries"]}
    assert libraries["pydantic"] == "ImportError: pydantic is blocked"
    assert libraries["numpy"] == ""
    assert "- pydantic: ImportError: pydantic is blocked" in (tmp_path / "out/page.md").read_text()


def test_an_unknown_step_is_named_with_those_there_are(tmp_path: Path) -> None:
    done = gpu_check("--only=nothing", cwd=tmp_path)
    assert done.returncode == 2
    assert "no step nothing; choose from doctor, device" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_ctrl_c_and_a_schedulers_sigterm_keep_what_is_there(tmp_path: Path) -> None:
    path = without("tensorflow", "jax", folder=tmp_path / "site")  # they take long to import
    for number in (signal.SIGINT, signal.SIGTERM):
        folder = tmp_path / number.name
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu_check", "--only=doctor", f"--output={folder}"],
            env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "-1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert any(line.startswith("doctor: what") for line in process.stdout)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "interrupted" in said
        assert json.loads((folder / "results.json").read_text())["interrupted"] is True


@pytest.mark.long
@pytest.mark.skipif("PIPELINE_DATA_DIR" not in os.environ, reason="MNIST's files are not at hand (PIPELINE_DATA_DIR)")
def test_a_rehearsal_runs_the_pipeline_and_a_training_on_the_cpu(tmp_path: Path) -> None:
    """Of the stages the first two: the others are run as these are."""
    only = ("limits", "train", "export", "data", "fast-float32-0")
    done = gpu_check("--rehearse", f"--output={tmp_path}", *(f"--only={name}" for name in only), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results.json").read_text())["results"]
    assert {one["step"]: one["status"] for one in found} == dict.fromkeys(only, "passed")
    text = (tmp_path / "page.md").read_text()
    assert "**A rehearsal on a CPU" in text
    assert "| ours, recipe fast | tensorflow | float32 | 1 |" in text
    assert (tmp_path / "run/export/model.onnx").is_file()
