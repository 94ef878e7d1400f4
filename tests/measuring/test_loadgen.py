"""The real LoadGen: driven in this process with a model made of NumPy, and by the command with the digits' model."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import QUICK, run_pipeline, started
from pages import list_anew

from pipeline.artifacts.loadgen import LoadgenResult
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Recommendation
from pipeline.backends import Bound
from pipeline.config import Loadgen
from pipeline.errors import ArtifactError, BackendUnavailable, BatchOutsideProfile, ConfigError, PipelineError
from pipeline.measuring.loadgen import logs, system
from pipeline.measuring.loadgen.process import Fail, Tell, isolated
from pipeline.tensors import Feed, Outputs, TensorSpec

CLASSES = 7
IMAGES = np.arange(101, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)  # [101, 2, 2, 1]


class Remainder:
    """A session in NumPy: an image of the value v is of class v mod 7. Keeps which batches came; fails at one call."""

    device = "cpu"
    settings: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, batch: int | None = None, fail_at: int = 0) -> None:
        self.inputs = (TensorSpec("image", (batch, 2, 2, 1), np.dtype(np.uint8)),)
        self.outputs = (TensorSpec("scores", (batch, CLASSES), np.dtype(np.float32)),)
        self.batches: list[int] = []
        self.fail_at = fail_at

    def run(self, feed: Feed) -> Outputs:
        image = feed["image"]
        self.batches.append(len(image))
        if len(self.batches) == self.fail_at:
            raise BatchOutsideProfile("this batch is not the one built for")
        return {"scores": np.eye(CLASSES, dtype=np.float32)[image[:, 0, 0, 0] % CLASSES]}

    def bind(self, feed: Feed) -> Bound:
        raise NotImplementedError


def no_failure(error: BaseException) -> Any:
    sys.__stderr__.write(repr(error))
    os._exit(1)  # LoadGen would wait for ever for the answer


def make(session: Remainder, batches: tuple[int, int] = (1, 1000), largest: int = 16) -> system.SystemUnderTest:
    return system.SystemUnderTest(session, {"image": IMAGES}, batches, largest, no_failure, best_of="scores")


SCENARIOS = tuple(system.NAMES)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("batch", "limits"), [(None, (3, 6)), (4, (1, 1000))])
def test_every_sample_gets_its_own_answer(
    scenario: Any, batch: int | None, limits: tuple[int, int], tmp_path: Path
) -> None:
    session = Remainder(batch)
    under_test = make(session, limits)
    settings, _ = system.configure(under_test, Loadgen(scenario=scenario, mode="accuracy"), 1.0)
    system.conduct(under_test, settings, tmp_path)
    said = logs.read_log(tmp_path)
    assert (said.verdict, said.reasons) == ("", [])
    answers, answered = logs.read_answers(tmp_path, len(IMAGES), under_test.answers.layout)
    assert answered.all()
    np.testing.assert_array_equal(answers["scores"], np.arange(len(IMAGES)) % CLASSES)
    smallest, largest = (batch, batch) if batch else limits
    assert set(session.batches) <= set(range(smallest, largest + 1))


@pytest.mark.parametrize(
    ("scenario", "metric", "effective"),
    [
        ("singlestream", "90.00_percentile_latency_ns", {"target_latency_percentile": 0.9, "samples_per_query": 1}),
        (
            "multistream",
            "99.00_percentile_per_query_latency_ns",
            {"target_latency_percentile": 0.99, "samples_per_query": 8, "min_query_count": 662},
        ),
        (
            "server",
            "completed_samples_per_sec",
            {
                "target_latency_percentile": 0.99,
                "target_latency_ns": 250_000_000,
                "target_qps": 500,
                "min_query_count": 662,
            },
        ),
        ("offline", "samples_per_second", {}),
    ],
)
def test_scenarios_obey_mlperfs_rules(scenario: Any, metric: str, effective: dict[str, Any], tmp_path: Path) -> None:
    under_test = make(Remainder())
    options = Loadgen(scenario=scenario, server_qps=500, server_latency_ms=250)
    settings, expected = system.configure(under_test, options, 0.3)
    system.conduct(under_test, settings, tmp_path)
    said = logs.read_log(tmp_path)
    assert (said.verdict, said.reasons) == ("VALID", [])
    assert said.metrics[metric] > 0
    assert effective | {"min_duration_ms": 300} == {
        key: said.settings[key] for key in effective | {"min_duration_ms": 300}
    }
    assert said.version.startswith("6.")
    if scenario == "offline":
        assert said.settings["samples_per_query"] >= 24_576
        assert expected.samples_per_query == pytest.approx(said.settings["samples_per_query"], rel=1e-3)
    assert not (tmp_path / "mlperf_log_trace.json").read_bytes(), "tracing costs time while it measures"


def test_loadgens_reasons_are_told(tmp_path: Path) -> None:
    under_test = make(Remainder())
    settings, _ = system.configure(
        under_test, Loadgen(scenario="server", server_qps=500, server_latency_ms=0.0001), 0.3
    )
    system.conduct(under_test, settings, tmp_path)
    said = logs.read_log(tmp_path)
    assert said.verdict == "INVALID"
    assert said.reasons[0] == "Reduce target QPS to improve latency."
    assert said.reasons[1].startswith("early stopping: Run unsuccessful.")


def test_an_audit_configuration_that_lies_about_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "audit.config").write_text("*.*.min_duration = 5000\n")
    monkeypatch.chdir(tmp_path)
    under_test = make(Remainder())
    settings, _ = system.configure(under_test, Loadgen(), 0.1)
    system.conduct(under_test, settings, tmp_path)
    assert logs.read_log(tmp_path).settings["min_duration_ms"] == 100


def test_what_loadgen_would_need_too_much_memory_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "meminfo"
    memory.write_text("MemTotal:  4000000 kB\nMemAvailable:    1000 kB\n")
    monkeypatch.setattr(system, "_MEMORY", memory)
    with pytest.raises(ConfigError, match=r"take .* GB of memory") as caught:
        system.configure(make(Remainder()), Loadgen(), 600.0)
    assert "benchmark.seconds=" in caught.value.hint


def test_logs_that_were_not_finished_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="did not finish"):
        logs.read_log(tmp_path)
    under_test = make(Remainder())
    settings, _ = system.configure(under_test, Loadgen(scenario="offline", mode="accuracy"), 0.1)
    system.conduct(under_test, settings, tmp_path)
    for name in ("mlperf_log_detail.txt", "mlperf_log_accuracy.json"):
        content = (tmp_path / name).read_text()
        (tmp_path / name).write_text(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match="mlperf_log_detail"):
        logs.read_log(tmp_path)
    with pytest.raises(ArtifactError, match="mlperf_log_accuracy"):
        logs.read_answers(tmp_path, len(IMAGES), under_test.answers.layout)


def test_without_the_library_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(BackendUnavailable, match="LoadGen cannot be imported") as caught:
        system.library()
    assert "Linux" in caught.value.hint


def drive_a_failing_session(tell: Tell, fail: Fail, folder: Path, fail_at: int) -> None:
    session = Remainder()
    under_test = system.SystemUnderTest(session, {"image": IMAGES}, (1, 100), 16, fail)
    settings, _ = system.configure(under_test, Loadgen(scenario="server", server_qps=1000), 30.0)
    session.fail_at = len(session.batches) + fail_at
    tell("begun")
    system.conduct(under_test, settings, folder)
    tell("done")


def die(tell: Tell, fail: Fail) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def raise_a_bug(tell: Tell, fail: Fail) -> None:
    raise KeyError("a bug")


def tell_what_is_blocked(tell: Tell, fail: Fail) -> None:
    tell(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_ctrl_c_is_not_for_the_process_at_work() -> None:
    resource_tracker._resource_tracker._stop()  # as in a process that has started none yet
    with isolated(tell_what_is_blocked) as receive:
        assert signal.SIGINT in receive(60)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_an_error_inside_a_query_ends_the_run_and_is_raised(tmp_path: Path) -> None:
    with isolated(drive_a_failing_session, tmp_path, 100) as receive:
        assert receive(60) == "begun"
        start = time.monotonic()
        with pytest.raises(BatchOutsideProfile, match="not the one built for"):
            receive(60)
        assert time.monotonic() - start < 20, "not at the end of its 30 seconds"


def test_a_process_that_dies_or_has_a_bug_is_told() -> None:
    with isolated(die) as receive, pytest.raises(PipelineError, match="exit code -9"):
        receive(60)
    with isolated(raise_a_bug) as receive, pytest.raises(RuntimeError, match=r"(?s)Traceback.*KeyError: 'a bug'"):
        receive(60)


# The command, with the model of the digits.


def result(folder: Path, name: str) -> LoadgenResult:
    return LoadgenResult.read(folder / f"artifacts/loadgen/{name}/result.json")


def scenario(folder: Path, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_pipeline("benchmark", "--scenario", name, *QUICK, "--set=benchmark.seconds=0.5", *arguments, cwd=folder)


@pytest.mark.long
def test_scenarios_are_published_with_loadgens_logs_and_labelled_unofficial(copy: Path) -> None:
    recommendation = Recommendation.read(copy / "artifacts" / Recommendation.PATH)
    for name in SCENARIOS:
        done = scenario(copy, name)
        assert done.returncode == 0, done.stderr
        folder = copy / f"artifacts/loadgen/{name}-performance"
        summary = (folder / "mlperf_log_summary.txt").read_text()
        found = result(copy, f"{name}-performance")
        assert f"Scenario : {system.NAMES[name]}" in summary
        assert f"Result is : {found.loadgen_result}" in summary
        # Whether a busy machine keeps Server's bound is not for this test to say.
        assert found.loadgen_result == "VALID" or name == "server", found.reasons
        assert found.valid == (found.loadgen_result == "VALID") == (not found.reasons)
        assert found.official is False
        assert "0.5 s instead of the 600 s of MLPerf's rules" in found.unofficial
        goal, batch = ("throughput", 16) if name == "offline" else ("latency", 1)
        choice = recommendation.choice(batch, goal)
        assert choice is not None
        assert (found.runner, found.device) == (choice.runner, choice.device), "what the benchmark recommends"
        assert f"{choice.runner.name} on {choice.device}" in done.stdout
        assert "recommended for" in done.stdout
        assert found.metric is not None
        assert (found.metric.value or 0) > 0
        assert found.settings["min_duration_ms"] == 500
        for told in ("UNOFFICIAL", "Result not verified by MLCommons Association.", "Result is : "):
            assert told in done.stdout
    assert len(list((copy / "artifacts/loadgen").glob("*/result.json"))) == len(SCENARIOS), "one beside the other"
    assert "up to date" in scenario(copy, "offline").stdout

    # What has changed since it was published is not carried over as if it were new; a result of another model goes.
    path = copy / "artifacts/loadgen/server-performance/result.json"
    other = json.loads(path.read_text())
    other["runner"]["sha256"] = "0" * 64
    path.write_text(json.dumps(other))
    refused = scenario(copy, "singlestream")
    assert refused.returncode == 3, refused.stderr
    assert "server-performance/result.json has" in refused.stderr
    assert "nothing is carried over" in refused.stderr
    assert json.loads(path.read_text()) == other
    list_anew(copy / "artifacts", "loadgen")
    assert scenario(copy, "singlestream").returncode == 0
    assert not path.exists()
    assert result(copy, "multistream-performance")


@pytest.mark.parametrize("name", ["singlestream", "offline"])
def test_accuracy_is_that_of_validation(copy: Path, name: str) -> None:
    done = scenario(copy, name, "--accuracy")
    assert done.returncode == 0, done.stderr
    found = result(copy, f"{name}-accuracy")
    (accuracy,) = found.accuracy
    parity = ParityReport.read(copy / "artifacts" / ParityReport.PATH)
    judged = parity.judged(found.runner)
    assert found.valid
    assert judged is not None
    assert judged.total is not None
    assert judged.verdict == "pass"
    assert accuracy.samples == parity.dataset.samples
    assert accuracy.validated_runner == found.runner.name
    assert accuracy.value == accuracy.validated == judged.total.outputs[0].candidate
    assert accuracy.fp32 == judged.total.outputs[0].reference
    assert (accuracy.meets_99, accuracy.meets_99_9) == (True, True)
    assert (found.metric, found.loadgen_result) == (None, None), "accuracy mode measures no speed"
    assert f"accuracy {accuracy.value:.4f}" in done.stdout


@pytest.mark.parametrize("scenario", ["singlestream", "offline"])
def test_where_no_best_class_is_judged_all_outputs_are_the_answer(scenario: Any, tmp_path: Path) -> None:
    session = Remainder()
    under_test = system.SystemUnderTest(session, {"image": IMAGES}, (1, 1000), 16, no_failure)
    settings, _ = system.configure(under_test, Loadgen(scenario=scenario, mode="accuracy"), 1.0)
    system.conduct(under_test, settings, tmp_path)
    answers, answered = logs.read_answers(tmp_path, len(IMAGES), under_test.answers.layout)
    assert answered.all()
    np.testing.assert_array_equal(answers["scores"], session.run({"image": IMAGES})["scores"])


@pytest.mark.long
def test_what_a_cpu_only_emulates_is_judged_but_not_timed(copy: Path) -> None:
    half = "--set=loadgen.precision=fp16"
    refused = scenario(copy, "singlestream", half)
    assert refused.returncode == 4
    assert "a CPU has no fp16 arithmetic" in refused.stderr
    assert not (copy / "artifacts/loadgen").exists()
    judged = scenario(copy, "offline", half, "--accuracy")
    assert judged.returncode == 0, judged.stderr
    assert "emulated" in judged.stdout
    runner = result(copy, "offline-accuracy").runner
    assert (runner.name, runner.emulated, runner.options.exact) == ("typed fp16", True, True)


@pytest.mark.long
def test_the_keras_model_can_be_driven_and_unknown_backends_not(copy: Path) -> None:
    assert scenario(copy, "offline", "--accuracy", "--set=loadgen.backend=tensorflow").returncode == 0
    found = result(copy, "offline-accuracy")
    (accuracy,) = found.accuracy
    assert (found.runner.backend, found.runner.role) == ("tensorflow", "original")
    assert (accuracy.validated_runner, accuracy.validated) == ("keras", accuracy.fp32)
    unknown = scenario(copy, "offline", "--set=loadgen.backend=cuda")
    assert unknown.returncode == 2
    assert "unknown backend 'cuda'" in unknown.stderr


@pytest.mark.long
def test_a_model_that_failed_validation_is_not_driven(copy: Path) -> None:
    strict = ("--set=validate.budget=0", "--set=validate.batch_size=64")
    path = copy / "artifacts/validate/parity.json"
    parity = json.loads(path.read_text())
    path.write_text(json.dumps(parity | {"verdict": "fail"}))
    list_anew(copy / "artifacts", "validate")
    refused = scenario(copy, "offline", *strict)
    assert refused.returncode == 6
    assert "failed validation" in refused.stderr
    allowed = scenario(copy, "offline", *strict, "--set=benchmark.allow_failed=true")
    assert allowed.returncode == 0, allowed.stderr
    assert "FAILED validation" in allowed.stdout


def long_run(folder: Path, until: str) -> "AbstractContextManager[subprocess.Popen[str]]":
    """Start a minute of LoadGen."""
    arguments = ("benchmark", "--scenario=singlestream", *QUICK, "--set=benchmark.seconds=60")
    return started(*arguments, cwd=folder, until=until)


def group_ends(group: int) -> bool:
    """Tell whether all processes of a group are gone, within ten seconds."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.long
@pytest.mark.parametrize("moment", ["loading the model", "samples/s expected"])
def test_ctrl_c_ends_loadgen_and_leaves_what_was_published(copy: Path, moment: str) -> None:
    assert scenario(copy, "offline").returncode == 0
    with long_run(copy, moment) as process:
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in stderr
        assert group_ends(process.pid)
    assert not (copy / "artifacts/.loadgen.partial").exists()
    assert [path.name for path in (copy / "artifacts/loadgen").iterdir() if path.is_dir()] == ["offline-performance"]
    assert "up to date" in scenario(copy, "offline").stdout


@pytest.mark.long
def test_loadgen_ends_with_the_process_that_started_it(copy: Path) -> None:
    with long_run(copy, "samples/s expected") as process:
        time.sleep(0.5)
        process.kill()
        process.communicate(timeout=20)  # to the end of what all of them write
        assert group_ends(process.pid)
