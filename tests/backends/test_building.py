"""Building in a process of its own: real builds, real crashes and real signals; features; the timing cache."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from commands import PYTHONPATH
from crashing import counted
from onnx import TensorProto, helper, numpy_helper
from test_tensorrt_backend import RTX, TENSORRT, cnn, has_gpu, needs_rtx, saved

from pipeline.backends.tensorrt import build, features, process, progress, timing_cache
from pipeline.environment import Gpu
from pipeline.errors import ArtifactError, BuildError, ConfigError, PipelineError

LONG_S = 5
"""TensorRT for RTX takes longer than this for the network `deep`."""


def deep(layers: int = 1000) -> onnx.ModelProto:
    """Return a network that takes long to build: as many convolutions, hardly two of them alike."""
    random, nodes, kernels, channels = np.random.default_rng(0), [], [], 4
    for index in range(layers):
        shape = (4 + index % 61, channels, 1 + index % 5, 1 + index % 3)
        kernels.append(numpy_helper.from_array(random.standard_normal(shape, np.float32), f"kernel{index}"))
        nodes.append(
            helper.make_node("Conv", [f"x{index}", f"kernel{index}"], [f"x{index + 1}"], auto_pad="SAME_UPPER")
        )
        channels = shape[0]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size, 32, 32])
        for name, size in (("x0", 4), (f"x{layers}", channels))
    ]
    graph = helper.make_graph(nodes, "deep", ends[:1], ends[1:], kernels)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


CRASHED = r"builder crashed: SIGSEGV in the phase 'Determining refit engines':\n"


def children(pid: int) -> list[int]:
    """Return the builders that a process has started, of those that still run; it may have started others."""
    found = [int(one) for path in Path(f"/proc/{pid}/task").glob("*/children") for one in path.read_text().split()]
    return [one for one in found if b"tensorrt.child" in Path(f"/proc/{one}/cmdline").read_bytes()]


def runs(pid: int) -> bool:
    """Return whether a process runs: it is there, and no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- the process ------------------------------------------------------------------------------------------------------


@needs_rtx
def test_a_process_builds_what_this_one_would(tmp_path: Path) -> None:
    model, engine = saved(cnn(), tmp_path), tmp_path / "model.engine"
    told: list[tuple[str, int, int]] = []
    found = process.build(model, engine, RTX, watch=lambda *step: told.append(step))
    here = build.build(model, RTX)
    assert engine.read_bytes() == here.engine
    assert (found.messages, found.version, found.taken, found.timing_cache) == ((), here.version, (), None)
    assert found.phases.keys() == here.phases.keys()
    assert {phase for phase, _, _ in told} == found.phases.keys()
    assert not children(os.getpid())


def test_the_process_imports_no_framework() -> None:
    code = (
        "import sys, pipeline.backends.tensorrt.child\n"
        "print(sorted({'keras', 'tensorflow', 'onnxruntime', 'rich', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": PYTHONPATH}, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr


@needs_rtx
def test_options_reach_the_process(tmp_path: Path) -> None:
    """All that JSON has no type for: numbers as keys, tuples, a path."""
    model = saved(cnn(shape=("batch", "height", 8, 1)), tmp_path)
    options = replace(RTX, ranges={"image": {1: (8, 8, 8)}}, workspace_bytes=2**30, optimization_level=2)
    process.build(model, tmp_path / "model.engine", options)
    assert (tmp_path / "model.engine").read_bytes() == build.build(model, options).engine


@needs_rtx
@pytest.mark.parametrize(
    ("model", "options", "kind", "words"),
    [
        (cnn("Frobnicate"), RTX, BuildError, "Frobnicate node 'the_activation' of the Keras layer 'act'"),
        (cnn(), replace(RTX, targets=("sm90",)), ConfigError, "unknown targets: sm90"),
        (None, RTX, ArtifactError, "does not exist"),
    ],
)
def test_an_error_crosses_the_process(
    model: onnx.ModelProto | None, options: build.BuildOptions, kind: type[PipelineError], words: str, tmp_path: Path
) -> None:
    path = saved(model, tmp_path) if model else tmp_path / "model.onnx"
    engine, layers = tmp_path / "model.engine", {"the_activation": "act"}
    with pytest.raises(kind, match=words) as caught:
        process.build(path, engine, options, layers)
    with pytest.raises(kind) as here:
        build.build(path, options, layers)
    assert str(caught.value) == str(here.value)
    assert not engine.exists()


@needs_rtx
def test_a_bug_there_is_a_bug_here(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)exit code 1:.*Traceback.*FileNotFoundError.*no/model.engine"):
        process.build(saved(cnn(), tmp_path), tmp_path / "no/model.engine", RTX)


@needs_rtx
def test_a_crash_of_the_builder_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    """Of 18 builds of this graph 17 ended by SIGSEGV, and one by an error that says why."""
    with pytest.raises(BuildError, match=f"{CRASHED}|must be a build time constant") as caught:
        process.build(saved(counted(), tmp_path), tmp_path / "model.engine", RTX)
    assert "warning: Was not able to infer kOPT value(s)" in caught.value.message
    assert not (tmp_path / "model.engine").exists()


@needs_rtx
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes by /proc")
class TestEnded:
    """What ends a process, or the one that waits for it."""

    @pytest.mark.parametrize(
        ("number", "hint"), [(signal.SIGSEGV, "a fault of TensorRT's"), (signal.SIGKILL, "memory ran out")]
    )
    def test_a_signal_is_an_error_that_names_it(self, number: signal.Signals, hint: str, tmp_path: Path) -> None:
        def end(*step: object) -> None:
            for pid in children(os.getpid()):
                os.kill(pid, number)

        engine = tmp_path / "model.engine"
        words = rf"builder crashed: {number.name} in the phase '.*', without a word"
        with pytest.raises(BuildError, match=words) as caught:
            process.build(saved(deep(), tmp_path), engine, RTX, watch=end)
        assert hint in caught.value.hint
        assert not engine.exists()

    def test_what_is_raised_here_ends_it(self, tmp_path: Path) -> None:
        def interrupt(*step: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            process.build(saved(deep(), tmp_path), tmp_path / "model.engine", RTX, watch=interrupt)
        assert not children(os.getpid())

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_it_ends_with_the_process_that_waits(self, number: signal.Signals, tmp_path: Path) -> None:
        code = (
            "import sys\nfrom pathlib import Path\nfrom pipeline.backends.tensorrt import build, process\n"
            "options = build.BuildOptions('tensorrt-rtx', False, ((1, 4, 16),))\n"
            "model, engine = map(Path, sys.argv[1:])\n"
            "process.build(model, engine, options, watch=lambda *step: print(*step, flush=True))"
        )
        engine = tmp_path / "model.engine"
        parent = subprocess.Popen(
            [sys.executable, "-c", code, saved(deep(), tmp_path), engine],
            env=os.environ | {"PYTHONPATH": PYTHONPATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert parent.stdout is not None
            assert any("Determining refit engines" in line for line in parent.stdout)
            (child,) = children(parent.pid)
            started = time.monotonic()
            parent.send_signal(number)
            _, errors = parent.communicate(timeout=60)
            while runs(child) and time.monotonic() - started < LONG_S:
                time.sleep(0.05)
            assert not runs(child)
        finally:
            parent.kill()
        assert ("KeyboardInterrupt" in errors) == (number != signal.SIGKILL)
        assert not engine.exists()


@needs_rtx
def test_sigterm_means_what_it_did_before(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    process.build(saved(cnn(), tmp_path), tmp_path / "model.engine", RTX)
    assert signal.getsignal(signal.SIGTERM) == before


# --- progress ---------------------------------------------------------------------------------------------------------


@needs_rtx
def test_the_builder_tells_its_phases_and_their_seconds(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    started = time.monotonic()
    found = build.build(saved(cnn(), tmp_path), RTX, watch=lambda *step: told.append(step))
    took = time.monotonic() - started
    assert next(iter(found.phases)) == "Building engine"
    assert 0 < max(found.phases.values()) == found.phases["Building engine"] <= took
    assert told[0][:2] == ("Building engine", 0)
    whole = {phase: steps for phase, _, steps in told}
    assert all(0 <= done <= steps == whole[phase] for phase, done, steps in told)
    assert ("Optimizing graph", whole["Optimizing graph"], whole["Optimizing graph"]) in told


def test_seconds_of_phases_add_up_and_the_longest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    phases = progress.Phases()
    phases.start("all", 2)
    for index in range(progress.KEPT + 3):
        for _ in range(2):
            phases.start(f"part {index}", 1)
            now[0] += index
            phases.finish(f"part {index}")
    phases.finish("all")
    phases.finish("never begun")
    found = phases.seconds()
    assert len(found) == progress.KEPT
    assert next(iter(found)) == "all"
    assert found["part 5"] == 10
    assert "part 0" not in found
    assert found["all"] == 2 * sum(range(progress.KEPT + 3))


# --- features ---------------------------------------------------------------------------------------------------------


def test_every_name_of_a_feature_is_in_the_recorded_api() -> None:
    assert {flag for flags in features.FLAGS.values() for flag in flags} <= set(TENSORRT["BuilderFlag"])
    assert set(features.LEVELS.values()) <= set(TENSORRT["HardwareCompatibilityLevel"])


@needs_rtx
def test_a_version_compatible_engine(tmp_path: Path) -> None:
    model = saved(cnn(), tmp_path)
    found = build.build(model, replace(RTX, features=("version-compatible",)))
    assert found.taken == ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME")
    assert found.messages == ()
    assert found.engine != build.build(model, RTX).engine


@needs_rtx
def test_tensorrt_for_rtx_has_no_lean_runtime_to_include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this fails, `features.FLAGS` may leave out EXCLUDE_LEAN_RUNTIME, as far as TensorRT for RTX goes."""
    monkeypatch.setattr(features, "FLAGS", {"version-compatible": ("VERSION_COMPATIBLE",)})
    with pytest.raises(BuildError, match=r"Unable to load library: libnvinfer_lean\.so"):
        build.build(saved(cnn(), tmp_path), replace(RTX, features=("version-compatible",)))


@needs_rtx
@pytest.mark.parametrize(
    ("asked", "targets", "words"),
    [
        (("refit",), ("sm89",), r"graph_jit\.cpp:\d+: CHECK\(status == CUDA_SUCCESS\) failed"),
        (("refit",), (), r"graph_jit\.cpp:\d+: CHECK\(status == CUDA_SUCCESS\) failed"),
        (("strip",), ("sm89", "sm120"), r"graph_jit\.cpp:\d+: CHECK\(status == CUDA_SUCCESS\) failed"),
        (("refit", "strip"), ("sm89", "sm120"), r"kernel_gen\.cpp:\d+: CHECK\(sm_vers_\.size\(\) == 1\) failed"),
    ],
)
def test_other_weights_need_a_driver_to_build(
    asked: tuple[str, ...], targets: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    """TensorRT for RTX 1.7.1 compiles such engines' kernels with the driver, and those for `refit` for one target.

    In processes of their own: after one such failure the builder gives the same words for another.
    """
    if has_gpu():
        pytest.skip("there is a GPU here")
    options = replace(RTX, targets=targets, features=asked)
    with pytest.raises(BuildError, match=rf"(?s)cannot build an engine:\nerror: IBuilder::.*{words}") as caught:
        process.build(saved(cnn(), tmp_path), tmp_path / "model.engine", options)
    assert caught.value.hint.startswith(f"Leave {', '.join(asked)} out of engine.features, or build on a machine with")


@pytest.mark.gpu
@needs_rtx
@pytest.mark.parametrize("asked", [("refit",), ("strip",), ("refit", "strip")])
def test_other_weights_where_there_is_a_gpu(asked: tuple[str, ...], tmp_path: Path) -> None:
    """Not yet run on a GPU."""
    model = saved(cnn(), tmp_path)
    found = build.build(model, replace(RTX, targets=(), features=asked))
    assert found.taken == tuple(flag for one in asked for flag in features.FLAGS[one])
    plain = build.build(model, replace(RTX, targets=()))
    assert len(found.engine) < len(plain.engine) or "strip" not in asked


@needs_rtx
@pytest.mark.parametrize("level", features.LEVELS)
def test_tensorrt_for_rtx_takes_no_level_of_hardware_compatibility(level: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"setHardwareCompatibilityLevel\(\) is unsupported in TensorRT-RTX") as one:
        build.build(saved(cnn(), tmp_path), replace(RTX, features=(level,)))
    assert "name them in engine.targets" in one.value.hint


@pytest.mark.parametrize(
    ("asked", "words"),
    [(("fast",), "unknown features: fast"), (tuple(features.LEVELS), "one level of hardware compatibility")],
)
def test_features_that_cannot_be(asked: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(RTX, features=asked)


class _Level:
    """A configuration that takes any level, as TensorRT's own does."""

    hardware_compatibility_level = None


def test_a_level_that_is_taken_is_read_back() -> None:
    names = SimpleNamespace(AMPERE_PLUS=1, SAME_COMPUTE_CAPABILITY=2)
    trt = SimpleNamespace(HardwareCompatibilityLevel=SimpleNamespace(__members__=vars(names)))
    config = _Level()
    assert features.apply(trt, config, ("same-compute-capability",), []) == ("SAME_COMPUTE_CAPABILITY",)
    assert config.hardware_compatibility_level == 2


# --- the timing cache -------------------------------------------------------------------------------------------------

H200 = Gpu("NVIDIA H200", "550.54.15", 143771, "9.0")


class Config:
    """What TensorRT 11 has for timing caches, in the words of its documentation; nothing here has run on a GPU.

    A cache is text: its device, and what was measured. Of damaged data an empty one is made and a line is logged; of
    another device's the configuration takes none.
    """

    def __init__(self, words: list[str], device: str = "H200") -> None:
        self.words, self.device, self.cache = words, device, None

    def create_timing_cache(self, serialized_timing_cache: bytes) -> "Cache":
        device, _, measured = serialized_timing_cache.decode().partition(":")
        if serialized_timing_cache and not measured:
            self.words.append("warning: Failed to deserialize timing cache. Returning an empty timing cache.")
            device = ""
        return Cache(device or self.device, measured)

    def set_timing_cache(self, cache: "Cache", ignore_mismatch: bool) -> bool:
        if cache.device != self.device and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> "Cache | None":
        return self.cache

    def build(self, layer: str) -> None:
        assert self.cache is not None
        self.cache.measured += f"{layer},"


class Cache:
    """A timing cache of `Config`."""

    def __init__(self, device: str, measured: str) -> None:
        self.device, self.measured = device, measured

    def serialize(self) -> memoryview:
        return memoryview(f"{self.device}:{self.measured}".encode())


def test_the_stand_in_has_the_names_of_tensorrt() -> None:
    ours = {"words", "device", "cache", "measured", "build"}
    assert {name for name in dir(Config) if not name.startswith("_")} - ours <= set(TENSORRT["IBuilderConfig"])
    assert {name for name in dir(Cache) if not name.startswith("_")} - ours <= set(TENSORRT["ITimingCache"])


def test_what_was_measured_is_there_for_the_next_build(tmp_path: Path) -> None:
    file, words = tmp_path / "below" / "a.cache", []
    for layer, before in (("conv", 0), ("dense", len("H200:conv,"))):
        config = Config(words)
        used = timing_cache.Used(config, file, words)
        config.build(layer)
        used.save()
        assert used.record.bytes_before == before
        assert used.record.file == "a.cache"
    assert file.read_bytes() == b"H200:conv,dense,"
    assert words == []
    assert [path.name for path in file.parent.iterdir()] == ["a.cache"]


@pytest.mark.parametrize("content", [b"junk", b"A100:conv,"], ids=["damaged", "another device's"])
def test_a_cache_that_is_refused_is_left_aside(content: bytes, tmp_path: Path) -> None:
    file, words = tmp_path / "a.cache", []
    file.write_bytes(content)
    config = Config(words)
    used = timing_cache.Used(config, file, words)
    config.build("dense")
    used.save()
    assert used.record.bytes_before == 0
    assert words[-1] == "warning: TensorRT refused the timing cache a.cache: it is now a.cache.refused"
    assert (tmp_path / "a.cache.refused").read_bytes() == content
    assert file.read_bytes() == b"H200:dense,"


def test_a_cache_that_cannot_be_written_costs_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, words = tmp_path / "a.cache", []
    file.write_bytes(b"H200:conv,")
    config = Config(words)
    used = timing_cache.Used(config, file, words)
    config.build("dense")

    def full(self: Path, target: Path) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    used.save()
    assert words == ["warning: the timing cache could not be written: No space left on device"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.cache"]
    assert file.read_bytes() == b"H200:conv,"


def test_a_cache_is_of_one_gpu_driver_and_version(tmp_path: Path) -> None:
    mine = timing_cache.path(tmp_path, "11.4.0.106", H200)
    assert mine.name == "tensorrt-11.4.0.106_NVIDIA-H200_9.0_driver-550.54.15.cache"
    others = {
        timing_cache.path(tmp_path, "11.5.0", H200),
        timing_cache.path(tmp_path, "11.4.0.106", replace(H200, driver="560.1")),
        timing_cache.path(tmp_path, "11.4.0.106", replace(H200, name="NVIDIA L4")),
    }
    assert len({mine, *others}) == 4


@needs_rtx
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_a_build_uses_the_cache_and_writes_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the builder of TensorRT for RTX in the other's place: its cache is empty, and without a GPU it reads none."""
    if has_gpu():
        pytest.skip("with a GPU it may read one")
    module = build.module("tensorrt-rtx")
    monkeypatch.setattr(build, "probe_build", lambda flavour: None)
    monkeypatch.setattr(build, "module", lambda flavour: module)
    logger = build.logger_of("tensorrt-rtx")
    monkeypatch.setattr(build, "logger_of", lambda flavour: logger)
    options = build.BuildOptions("tensorrt", False, ((1, 4, 16),), timing_cache=tmp_path / "a.cache")
    found = build.build(saved(cnn(), tmp_path), options)
    assert found.timing_cache is not None
    assert found.timing_cache.bytes_before == 0
    assert found.messages == ()
    assert (tmp_path / "a.cache").stat().st_size > 0
    (tmp_path / "a.cache").write_bytes(b"junk")
    found = build.build(tmp_path / "model.onnx", options)
    assert "warning: Failed to deserialize timing cache. Returning an empty timing cache." in found.messages
    assert found.messages[-1] == "warning: TensorRT refused the timing cache a.cache: it is now a.cache.refused"
    assert (tmp_path / "a.cache").stat().st_size > len(b"junk")


@pytest.mark.gpu
def test_tensorrt_builds_again_by_what_it_measured(tmp_path: Path) -> None:
    """Not yet run on a GPU."""
    if build.installed_version("tensorrt") is None:
        pytest.skip("TensorRT is not installed")
    model, file = saved(cnn(), tmp_path), tmp_path / "a.cache"
    options = build.BuildOptions("tensorrt", False, ((1, 4, 16),), timing_cache=file)
    for _ in range(2):
        size = file.stat().st_size if file.exists() else 0
        found = process.build(model, tmp_path / "model.engine", options)
        assert found.timing_cache is not None
        assert found.timing_cache.bytes_before == size
        assert found.messages == ()
    file.write_bytes(file.read_bytes()[:-7])
    found = process.build(model, tmp_path / "model.engine", options)
    assert found.messages[-1] == "warning: TensorRT refused the timing cache a.cache: it is now a.cache.refused"


def test_tensorrt_for_rtx_has_no_timing_cache() -> None:
    with pytest.raises(ConfigError, match="tensorrt-rtx has no timing cache"):
        replace(RTX, timing_cache=Path("a.cache"))
