"""What the runner does with CUDA and TensorRT, in which order: on a fake device that computes, and on a real one."""

import gc
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_gpu
import numpy as np
import pytest
from pydantic import ValidationError
from test_tensorrt_backend import cnn, saved

from pipeline import environment
from pipeline.backends import LoadOptions, Step, tensorrt
from pipeline.backends.tensorrt import EngineSession, build
from pipeline.errors import BackendUnavailable, BatchOutsideProfile, InputError

IMAGE = fake_gpu.Tensor(name="image", shape=(-1, 2, 3), dtype=np.uint8, mode=fake_gpu.Mode.INPUT)
SCALE = fake_gpu.Tensor(name="scale", shape=(1,), dtype=np.float32, mode=fake_gpu.Mode.INPUT)
SCORES = fake_gpu.Tensor(name="scores", shape=(-1, 3), dtype=np.float32, mode=fake_gpu.Mode.OUTPUT)
TOTAL = fake_gpu.Tensor(name="total", shape=(-1,), dtype=np.int64, mode=fake_gpu.Mode.OUTPUT)
MEAN = fake_gpu.Tensor(name="mean", shape=(1,), dtype=np.float32, mode=fake_gpu.Mode.OUTPUT)


def function(
    image: np.ndarray, scores: np.ndarray, total: np.ndarray, scale: np.ndarray | None = None, mean: Any = None
) -> None:
    """Tell each sample from every other, so that a sample in the wrong place shows."""
    factor = np.float32(1) if scale is None else scale
    scores[:] = image.sum(axis=1, dtype=np.float32) * factor
    total[:] = image.astype(np.int64).reshape(len(image), -1) @ 7 ** np.arange(6)
    if mean is not None:
        mean[:] = image.mean()


def expected(images: np.ndarray, scale: float = 1) -> dict[str, np.ndarray]:
    out = {"scores": np.empty((len(images), 3), np.float32), "total": np.empty(len(images), np.int64)}
    function(images, **out, scale=np.float32([scale]))
    return out


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 2, 3), np.uint8)


Load = Callable[..., AbstractContextManager[EngineSession]]


@pytest.fixture
def gpu() -> fake_gpu.Gpu:
    return fake_gpu.Gpu()


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def load(request: pytest.FixtureRequest, gpu: fake_gpu.Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return a function that loads an engine for batches 2 to 8 on the fake device."""
    path = tmp_path / "model.engine"
    path.write_bytes(b"an engine")
    monkeypatch.setattr(environment, "gpus", lambda: ["a fake GPU"])
    logger = SimpleNamespace(words=[])
    monkeypatch.setattr(build, "logger_of", lambda flavour: logger)

    def load(
        *steps: Step,
        tensors: tuple[fake_gpu.Tensor, ...] = (IMAGE, SCORES, TOTAL),
        function: Callable[..., None] = function,
        profiles: tuple[tuple[int, int, int], ...] = ((2, 4, 8),),
    ) -> Any:
        engine = fake_gpu.Engine(gpu, list(tensors), function, *profiles)
        for name, module in fake_gpu.modules(gpu, engine).items():
            monkeypatch.setitem(sys.modules, name, module)
        options = LoadOptions(request.param, sha256=hashlib.sha256(b"an engine").hexdigest(), steps=steps)
        return tensorrt.load(path, options)

    return load


def check(session: EngineSession, count: int, seed: int = 0) -> None:
    answer = session.run({"image": images(count, seed)})
    assert list(answer) == ["scores", "total"]
    for name, want in expected(images(count, seed)).items():
        np.testing.assert_array_equal(answer[name], want, strict=True)


# --- one batch --------------------------------------------------------------------------------------------------------


def test_every_batch_is_right_the_first_time_and_again(load: Load) -> None:
    with load() as session:
        for seed, count in enumerate((4, 4, 8, 2, 4, 3, 3, 8)):
            check(session, count, seed)


def test_a_run_of_a_known_shape_is_one_launch_and_one_wait(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load() as session:
        check(session, 4)
        del gpu.log[:]
        check(session, 4, seed=1)
        assert gpu.log == ["graph on 1", "sync 1"]


def test_a_graph_holds_the_copies_and_is_captured_once_for_a_shape(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load() as session:
        for count in (4, 3, 4, 3):
            check(session, count)
        captures = [line for line in gpu.log if line.startswith("capture")]
        assert captures == ["capture on 1: copy in, infer, copy out, copy out"] * 2
        assert gpu.log.count("create context") == 2
        assert session.settings["cuda_graph"] is True
        assert "cuda_graph_reason" not in session.settings


def test_the_first_inference_of_a_shape_is_no_capture(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load() as session:
        check(session, 4)
    lines = [line for line in gpu.log if line.startswith(("infer", "capture"))]
    assert lines[0] == "infer on 1"
    assert lines[1].startswith("capture")


def test_an_engine_that_cannot_be_captured_runs_all_the_same_and_says_so(load: Load, gpu: fake_gpu.Gpu) -> None:
    gpu.capturable = False
    with load(Step(batch=9, chunk=4, streams=2)) as session:
        for count in (4, 4, 3, 25, 4):
            check(session, count)
        bound = session.bind({"image": images(4)})
        bound()
        assert session.settings["cuda_graph"] is False
        assert session.settings["bound_cuda_graph"] is False
        assert "captur" in str(session.settings["cuda_graph_reason"])
        assert not [line for line in gpu.log if line.startswith(("capture", "graph"))]


def test_answers_are_views_of_memory_that_the_session_keeps(load: Load) -> None:
    with load() as session:
        first = session.run({"image": images(4)})["scores"]
        second = session.run({"image": images(4, seed=1)})["scores"]
        assert np.shares_memory(first, second)
        other = session.run({"image": images(3)})["scores"]
        assert not np.shares_memory(first, other)
    np.testing.assert_array_equal(other, expected(images(3))["scores"])  # after the session, too


def test_the_dict_returned_is_the_callers(load: Load) -> None:
    with load() as session:
        session.run({"image": images(4)}).clear()
        check(session, 4)


def test_arrays_that_are_not_contiguous(load: Load) -> None:
    with load() as session:
        for _ in range(2):
            strided = images(8)[::2]
            np.testing.assert_array_equal(session.run({"image": strided})["total"], expected(strided)["total"])


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({}, "takes"),
        ({"image": images(4), "mask": images(4)}, "mask"),
        ({"image": images(4).astype(np.int16)}, "int16"),
        ({"image": images(4)[:, :, :1]}, r"\(4, 2, 1\)"),
        ({"image": images(1)}, "batch of 1 is outside the engine's 2 to 8"),
        ({"image": images(0)}, "batch of 0 is outside"),
    ],
)
def test_a_wrong_feed_is_refused_before_anything_is_launched(
    feed: dict[str, np.ndarray], words: str, load: Load, gpu: fake_gpu.Gpu
) -> None:
    with load() as session:
        for _ in range(2):  # with nothing prepared, and after a good run
            del gpu.log[:]
            with pytest.raises(InputError, match=words) as caught:
                session.run(feed)
            assert isinstance(caught.value, BatchOutsideProfile) == ("batch" in words)
            assert gpu.log == []
            check(session, 4)


# --- profiles ---------------------------------------------------------------------------------------------------------

THREE = ((4, 16, 16), (1, 1, 1), (2, 3, 3))


def profiles_set(gpu: fake_gpu.Gpu) -> list[str]:
    return [line for line in gpu.log if line.startswith("profile")]


@pytest.mark.parametrize(("count", "index"), [(1, 1), (2, 2), (3, 2), (4, 0), (16, 0)])
def test_a_batch_runs_in_the_narrowest_profile_that_takes_it(
    count: int, index: int, load: Load, gpu: fake_gpu.Gpu
) -> None:
    with load(profiles=THREE) as session:
        check(session, count)
        assert profiles_set(gpu) == [f"profile {index} on 1"]
        assert session.settings["profile"] == list(THREE[index])
        session.bind({"image": images(count)})()
        assert profiles_set(gpu) == [f"profile {index} on 1"] * 2
        assert session.settings["bound_profile"] == list(THREE[index])


def test_profiles_in_turn_keep_their_contexts(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load(profiles=THREE) as session:
        for seed, count in enumerate((1, 3, 16, 1, 2, 16, 3)):
            check(session, count, seed)
        assert profiles_set(gpu) == ["profile 1 on 1", "profile 2 on 1", "profile 0 on 1", "profile 2 on 1"]
        assert not [line for line in gpu.log if line.startswith("capture") and "profile" in line]


def test_each_chunk_has_the_profile_of_its_size(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load(profiles=THREE) as session:
        check(session, 33)  # 16, 16 and 1
        assert profiles_set(gpu) == ["profile 0 on 1", "profile 0 on 2", "profile 1 on 1"]
        assert (session.settings["chunk"], session.settings["profile"]) == (16, [4, 16, 16])


def test_a_batch_that_no_profile_takes_is_told_which_ones_there_are(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load(profiles=((8, 8, 8), (2, 2, 4))) as session:
        for use in (session.run, session.bind):
            for count in (1, 6):
                with pytest.raises(BatchOutsideProfile, match=f"a batch of {count} is outside the engine's 8, 2 to 4"):
                    use({"image": images(count)})
        assert not gpu.contexts
        check(session, 2)


def test_a_profile_that_tensorrt_refuses_is_an_error(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_gpu.Context, "set_optimization_profile_async", lambda *_: False)
    with load(profiles=THREE) as session, pytest.raises(BackendUnavailable, match="take optimization profile 2"):
        session.run({"image": images(3)})


# --- chunks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [9, 10, 16, 17, 23, 24, 25, 32, 33, 40, 41, 79])
@pytest.mark.parametrize(
    "steps", [(), (Step(batch=9, chunk=3, streams=1),), (Step(batch=1, streams=3), Step(batch=20, chunk=5, streams=2))]
)
def test_a_large_batch_in_chunks_is_what_it_is_whole(count: int, steps: tuple[Step, ...], load: Load) -> None:
    with load(*steps) as session:
        for seed in range(3):
            check(session, count, seed)
            check(session, 4, seed)


def test_chunks_go_over_the_streams_in_turn_ahead_of_the_waiting(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load() as session:
        check(session, 56)
        del gpu.log[:]
        check(session, 56, seed=1)
        ahead = ["graph on 1", "graph on 2"] * 2  # both buffers of both streams are full before the first wait
        turn = ["wait for event", "graph on 1", "wait for event", "graph on 2", "wait for event", "graph on 1"]
        assert gpu.log == ahead + turn + ["wait for event"] * 4
        assert (session.settings["streams"], session.settings["chunk"]) == (2, 8)


def test_one_context_for_a_stream_and_shape_and_one_scratch_memory_for_a_stream(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load() as session:
        check(session, 56)
        assert len(gpu.contexts) == 2
        assert len([line for line in gpu.log if line.startswith("capture")]) == 4
        check(session, 4)
        assert sorted(gpu.stream_of_scratch.values()) == [1, 2]


def test_a_plan_says_the_chunk_and_the_streams(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load(Step(batch=6, chunk=3, streams=3), Step(batch=1)) as session:
        check(session, 5)
        assert session.settings["chunk"] == 5
        check(session, 9)
        assert (session.settings["streams"], session.settings["chunk"]) == (3, 3)
        assert len(gpu.streams) == 3


@pytest.mark.parametrize("step", [Step(batch=1, chunk=1), Step(batch=1, chunk=9)])
def test_a_step_that_does_not_fit_the_engine_is_refused(step: Step, load: Load) -> None:
    with pytest.raises(BatchOutsideProfile, match="does not fit"), load(step):
        pass


@pytest.mark.parametrize("wrong", [{"streams": 0}, {"chunk": 0}, {"threads": 0}, {"batch": 0}, {"pieces": 1}])
def test_a_step_that_is_none_cannot_be_made(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Step.model_validate({"batch": 1} | wrong)


def test_an_input_without_a_batch_goes_with_every_chunk(load: Load) -> None:
    with load(tensors=(IMAGE, SCALE, SCORES, TOTAL)) as session:
        for count in (4, 21):
            answer = session.run({"image": images(count), "scale": np.float32([3])})
            np.testing.assert_array_equal(answer["scores"], expected(images(count), 3)["scores"])


def signals(count: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, length)).astype(np.float32)


def doubled(signal: np.ndarray, twice: np.ndarray) -> None:
    twice[:] = 2 * signal


SIGNAL = fake_gpu.Tensor(name="signal", shape=(-1, -1), dtype=np.float32, mode=fake_gpu.Mode.INPUT)
TWICE = fake_gpu.Tensor(name="twice", shape=(-1, -1), dtype=np.float32, mode=fake_gpu.Mode.OUTPUT)


def test_every_dynamic_axis_may_change_from_run_to_run_in_chunks_too(load: Load) -> None:
    with load(tensors=(SIGNAL, TWICE), function=doubled) as session:
        for seed, (count, length) in enumerate([(4, 3), (4, 5), (2, 1), (20, 3), (20, 5), (17, 5), (17, 2), (4, 3)]):
            signal = signals(count, length, seed)
            np.testing.assert_array_equal(session.run({"signal": signal})["twice"], 2 * signal, strict=True)


def test_a_size_the_engine_was_not_built_for_is_refused_by_axis(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load(tensors=(SIGNAL, TWICE), function=doubled) as session:
        for length in (0, 6):
            with pytest.raises(
                InputError, match=f"axis 1 of input 'signal' is {length}, outside the engine's 1 to 5"
            ) as caught:
                session.run({"signal": signals(4, length)})
            assert not isinstance(caught.value, BatchOutsideProfile)
            assert 'engine.ranges."signal".1' in caught.value.hint
        with pytest.raises(BatchOutsideProfile, match="2 to 8"):
            session.run({"signal": signals(1, 3)})
        with pytest.raises(InputError, match="axis 1"):
            session.bind({"signal": signals(4, 6)})
        assert not gpu.contexts


def test_a_first_axis_with_a_range_of_its_own_is_no_batch(load: Load) -> None:
    rows = fake_gpu.Tensor(name="rows", shape=(-1, 2), dtype=np.float32, mode=fake_gpu.Mode.INPUT, profile=(1, 2, 30))

    def moved(signal: np.ndarray, rows: np.ndarray, twice: np.ndarray) -> None:
        twice[:] = 2 * signal + rows.sum()

    with load(tensors=(SIGNAL, rows, TWICE), function=moved) as session:
        for count, more in ((4, 30), (20, 7), (2, 1)):  # 20 goes in chunks, and all of the rows with each
            signal, table = signals(count, 3), signals(more, 2)
            answer = session.run({"signal": signal, "rows": table})["twice"]
            np.testing.assert_array_equal(answer, 2 * signal + table.sum(), strict=True)
        with pytest.raises(InputError, match="axis 0 of input 'rows' is 31, outside the engine's 1 to 30"):
            session.run({"signal": signals(4, 3), "rows": signals(31, 2)})


def test_an_output_without_a_batch_cannot_be_put_together(load: Load) -> None:
    with load(tensors=(IMAGE, SCORES, TOTAL, MEAN)) as session:
        session.run({"image": images(8)})
        with pytest.raises(BatchOutsideProfile, match="mean"):
            session.run({"image": images(9)})


def test_a_large_batch_has_its_answers_in_one_array_kept(load: Load) -> None:
    with load() as session:
        first = session.run({"image": images(40)})["scores"]
        assert first.flags.c_contiguous
        second = session.run({"image": images(30)})["scores"]
        assert np.shares_memory(first, second)
        assert len(second) == 30


def test_a_failure_between_chunks_leaves_nothing_under_way(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load() as session:
        check(session, 40)
        gpu.launches_left = 3
        with pytest.raises(fake_gpu.CudaError, match="launch failed"):
            session.run({"image": images(40)})
        assert all(stream.done == len(stream.queue) for stream in gpu.streams.values())
        gpu.launches_left = 100
        check(session, 40, seed=1)


def test_tensorrts_words_where_it_does_not_execute(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(context: fake_gpu.Context, handle: int) -> bool:
        build.logger_of("tensorrt").words.append("error: out of luck")
        return False

    monkeypatch.setattr(fake_gpu.Context, "execute_async_v3", refuse)
    with (
        load() as session,
        pytest.raises(BackendUnavailable, match="could not execute the engine:\nerror: out of luck"),
    ):
        session.run({"image": images(4)})


# --- bound inputs -----------------------------------------------------------------------------------------------------


def test_a_bound_launch_infers_and_copies_nothing(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load() as session:
        feed = images(4)
        bound = session.bind({"image": feed})
        assert bound.stream == 1
        assert gpu.log[-3].startswith("capture on 1: infer")
        del gpu.log[:]
        bound()
        bound.launch()
        bound.launch()
        bound.wait()
        assert gpu.log == ["graph on 1", "sync 1", "graph on 1", "graph on 1", "sync 1"]
        memory = session._bound[0][0]._memory
        scores = gpu.at(memory["scores"].address, 48).view(np.float32).reshape(4, 3)
        np.testing.assert_array_equal(scores, expected(feed)["scores"])


def test_runs_in_between_do_not_touch_what_is_bound(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load() as session:
        feed = images(4)
        bound = session.bind({"image": feed})
        want = expected(feed)["total"]
        feed[:] = 0  # the caller's again
        check(session, 4, seed=5)
        check(session, 40, seed=6)
        for count in range(2, 9):
            check(session, count)  # more shapes than are kept
        bound()
        memory = session._bound[0][0]._memory
        np.testing.assert_array_equal(gpu.at(memory["total"].address, 32).view(np.int64), want)


@pytest.mark.parametrize("bind", [True, False])
def test_no_inference_sees_memory_that_was_never_written(bind: bool, load: Load) -> None:
    seen: list[np.ndarray] = []

    def watched(image: np.ndarray, **outputs: np.ndarray) -> None:
        seen.append(image.copy())
        function(image, **outputs)

    with load(function=watched) as session:
        feed = {"image": np.ones((4, 2, 3), np.uint8)}
        (session.bind(feed) if bind else lambda: session.run(feed))()
    assert [set(image.ravel()) for image in seen] == [{0}, {1}]  # warm, then in earnest


def test_more_than_the_profile_cannot_be_bound(load: Load) -> None:
    with load() as session, pytest.raises(BatchOutsideProfile, match="outside the engine's 2 to 8"):
        session.bind({"image": images(9)})


# --- the end ----------------------------------------------------------------------------------------------------------


def test_the_shape_unused_for_longest_goes_first(
    load: Load, gpu: fake_gpu.Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.backends.tensorrt.session.SHAPES", 3)
    with load() as session:
        for count in (2, 3, 4, 2):
            check(session, count)
        del gpu.log[:]
        check(session, 5)  # 3 goes
        graph, context, memory = (gpu.log.index(f"free {what}") for what in ("graph", "context", "device memory"))
        assert graph < context < memory
        assert gpu.log.count("free graph") == 1
        del gpu.log[:]
        for count in (2, 4, 5):
            check(session, count)
        assert not [line for line in gpu.log if line.startswith(("capture", "free"))]
        check(session, 3)
        assert gpu.log.count("free graph") == 1


def test_a_shape_with_work_under_way_is_waited_for_before_it_goes(
    load: Load, gpu: fake_gpu.Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.backends.tensorrt.session.SHAPES", 1)
    with load() as session:
        check(session, 2)
        session._recent.launch()  # what an interrupt between launch and wait leaves
        check(session, 3)


def test_a_shape_that_goes_takes_its_memory_with_it(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load() as session:
        seen = []
        for repeat in range(3):
            for count in [*range(2, 9), *range(9, 20)]:
                check(session, count, repeat)
            gc.collect()
            seen.append(len(gpu.memory))
        assert seen[0] == seen[1] == seen[2]


def test_everything_is_freed_and_in_order(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load() as session:
        check(session, 4)
        check(session, 40)
        bound = session.bind({"image": images(4)})
        check(session, 4)
        bound.launch()  # and nobody waits
        del gpu.log[:]
    lines = gpu.log
    assert lines[:3] == ["sync 1", "sync 2", "device sync"]
    first, last = lines.index, lambda what: len(lines) - 1 - lines[::-1].index(what)
    assert last("free graph") < last("free context") < last("free device memory")
    assert last("free device memory") < last("free stream 2") < first("free engine") < first("free runtime")
    assert all(context() is None for context in gpu.contexts)
    gc.collect()
    assert gpu.memory == {}
    for use in (bound, bound.launch, lambda: session.run({"image": images(4)}), lambda: session.bind({})):
        with pytest.raises(RuntimeError, match="closed"):
            use()
    session.close()  # again: nothing more


def test_contexts_use_our_memory_and_a_shapes_own_kernels(load: Load, gpu: fake_gpu.Gpu) -> None:
    with load() as session:
        assert gpu.config.strategy == "ours"
        kernels = getattr(gpu.config, "dynamic_shapes_kernel_specialization_strategy", None)
        assert kernels == ("at once" if session.flavour == "tensorrt-rtx" else None)


def test_a_failed_load_frees_what_it_made(load: Load, gpu: fake_gpu.Gpu) -> None:
    with pytest.raises(BatchOutsideProfile), load(Step(batch=1, chunk=99)):
        pass
    gc.collect()
    assert "free engine" in gpu.log


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_the_cost_of_a_launch_is_printed() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, root / "benchmarks" / "launch_overhead.py", "--calls", "200"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "run, batch 1" in done.stdout
    assert "bound launch" in done.stdout


@pytest.mark.parametrize(
    ("capability", "runs"), [((8, 9), True), ((12, 1), True), ((12, 3), True), ((9, 0), False), ((10, 0), False)]
)
@pytest.mark.parametrize("load", ["tensorrt-rtx"], indirect=True)
def test_a_gpu_that_tensorrt_for_rtx_leaves_out_is_one_reason_for_every_engine(
    capability: tuple[int, int], runs: bool, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on an H200, where the installed library's message listed 8.0, 8.6, 8.9, 12.0, 12.1 and what is newer."""
    monkeypatch.setattr(fake_gpu.Device, "compute_capability", capability)
    loading = load()
    if runs:
        tensorrt.probe("tensorrt-rtx")
        with loading as session:
            check(session, 4)
        return
    for use in (lambda: tensorrt.probe("tensorrt-rtx"), loading.__enter__):
        with pytest.raises(BackendUnavailable) as caught:
            use()
        assert caught.value.message == (
            f"TensorRT for RTX does not run on A fake GPU, of compute capability {capability[0]}.{capability[1]}: "
            "install TensorRT, the extra `gpu`"
        )
        assert "8.9, 12.0, 12.1 and newer" in caught.value.hint
    tensorrt.probe("tensorrt")


def test_the_installed_tensorrt_for_rtx_names_compute_capabilities_as_is_assumed() -> None:
    names = set(pytest.importorskip("tensorrt_rtx").ComputeCapability.__members__) - {"NONE", "CURRENT"}
    assert all(re.fullmatch(r"SM\d+\d", name) for name in names)
    assert {"SM80", "SM89", "SM120"} <= names


# --- on a GPU ---------------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("flavour", build.FLAVOURS)
def test_every_profile_answers_alike(flavour: str, tmp_path: Path) -> None:
    """Never run yet, as the next."""
    try:
        tensorrt.probe(flavour)
    except BackendUnavailable as error:
        pytest.skip(error.message)
    profiles = ((1, 1, 1), (2, 8, 8), (9, 32, 32))
    model, path = saved(cnn(), tmp_path), tmp_path / "model.engine"
    pictures = np.random.default_rng(1).integers(0, 256, (41, 8, 8, 1), np.uint8)  # 32, and 9 that are a chunk
    found: dict[int, list[np.ndarray]] = {}
    for several in (profiles, ((1, 8, 32),)):
        path.write_bytes(build.build(model, build.BuildOptions(flavour, allow_tf32=False, profiles=several)).engine)
        options = LoadOptions(flavour, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        with tensorrt.load(path, options) as session:
            assert len(tensorrt.inspect(session)) == len(several)
            for count in (1, 8, 32, 1, 3, 41, 8):
                answer = session.run({"image": pictures[:count]})["probabilities"]
                found.setdefault(count, []).append(answer.copy())
                bound = min(count, 32)
                session.bind({"image": pictures[:bound]})()
                if several == profiles:
                    assert session.settings["bound_profile"] == list(profiles[(bound > 1) + (bound > 8)])
    for answers in found.values():
        for one in answers[1:]:
            np.testing.assert_allclose(one, answers[0], rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("flavour", build.FLAVOURS)
def test_chunks_are_the_whole_and_graphs_are_plain_enqueues(
    flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never run yet: the only GPU at hand, an H200, is none of TensorRT for RTX's."""
    from pipeline import cuda
    from pipeline.backends.tensorrt.execution import Slot

    try:
        tensorrt.probe(flavour)
    except BackendUnavailable as error:
        pytest.skip(error.message)
    built = build.build(saved(cnn(), tmp_path), build.BuildOptions(flavour, allow_tf32=False, profiles=((2, 16, 64),)))
    path = tmp_path / "model.engine"
    path.write_bytes(built.engine)
    sha256 = hashlib.sha256(built.engine).hexdigest()
    pictures = np.random.default_rng(1).integers(0, 256, (64, 8, 8, 1), np.uint8)
    feed = {"image": pictures}
    with tensorrt.load(path, LoadOptions(flavour, sha256=sha256)) as session:
        whole = session.run(feed)["probabilities"].copy()
        assert session.settings["cuda_graph"] is True, session.settings
        twice = session.run({"image": np.concatenate([pictures, pictures[:33]])})["probabilities"]
        np.testing.assert_allclose(twice, np.concatenate([whole, whole[:33]]), rtol=0, atol=1e-6)
        bound = session.bind(feed)
        assert 0 < cuda.EventClock(bound.stream).time_ns(bound.launch) < 1_000_000_000
    for chunk, streams in ((7, 1), (9, 2), (16, 3)):  # 64 = 9 × 7 + 1 and 7 × 9 + 1: a last chunk is filled up
        steps = (Step(batch=1, chunk=chunk, streams=streams),)
        with tensorrt.load(path, LoadOptions(flavour, sha256=sha256, steps=steps)) as session:
            for _ in range(3):
                np.testing.assert_allclose(session.run(feed)["probabilities"], whole, rtol=0, atol=1e-6)
            assert session.settings["streams"] == streams

    def refuse(stream: Any, work: Callable[[], None]) -> Any:
        raise cuda.CaptureError("not in this test")

    monkeypatch.setattr(cuda, "capture", refuse)
    with tensorrt.load(path, LoadOptions(flavour, sha256=sha256)) as session:
        np.testing.assert_array_equal(session.run(feed)["probabilities"], whole)
        assert session.settings["cuda_graph_reason"] == "not in this test"
        assert isinstance(session._recent, Slot)
