"""The comparison with peers: the same model, checked outputs, and claims that can fail."""

import json
import subprocess
import sys
from pathlib import Path

import made_cells
import numpy as np
import onnx
import pytest
from commands import ROOT
from onnx import TensorProto, helper

from benchmarks import __main__ as command
from benchmarks import networks, runners, table, trtexec
from benchmarks.runners import KERAS, LOOP, ONNXRUNTIME, POLYGRAPHY, WAYS, Files
from pipeline import backends, environment
from pipeline.artifacts.runner import Step
from pipeline.backends import LoadOptions
from pipeline.errors import ArtifactError, BackendUnavailable
from pipeline.measuring.cells import Measurement, Timed
from pipeline.runners import Runner

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*"),  # Keras 3.15 with NumPy 2.4
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow.*"),
]


@pytest.fixture
def product(tmp_path: Path, random: np.random.Generator) -> tuple[Path, np.ndarray]:
    """A single matrix product, x [batch, 8] to y [batch, 4], and its weights."""
    weights = random.standard_normal((8, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "product.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path, weights


@pytest.mark.parametrize(("module", "variant"), [(LOOP, "cpu"), (POLYGRAPHY, "onnxrt")])
def test_a_peer_runs_the_graph_it_is_given(
    product: tuple[Path, np.ndarray], random: np.random.Generator, module: str, variant: str
) -> None:
    path, weights = product
    backend = backends.module(module)
    backend.probe(variant)
    with backend.load(path, LoadOptions(variant)) as session:
        assert [spec.name for spec in session.inputs] == ["x"]
        assert session.inputs[0].shape == (None, 8)
        assert session.inputs[0].dtype == np.float32
        assert session.device == "cpu"
        assert session.settings["threads"]
        for batch in (3, 1, 5):
            x = random.standard_normal((batch, 8)).astype(np.float32)
            np.testing.assert_allclose(session.run({"x": x})["y"], x @ weights, rtol=1e-5, atol=1e-6)
        with pytest.raises(BackendUnavailable, match="host arrays"):
            session.bind({"x": x})


def test_every_way_is_one_its_module_offers_and_takes_what_it_is_given(tmp_path: Path) -> None:
    given = files(tmp_path, engine=tmp_path / "model.engine", engine_sha256="1" * 64)
    suffixes = {"keras": ".keras", "onnx": ".onnx", "engine": ".engine"}
    digests = {"keras": None, "onnx": "0" * 64, "engine": "1" * 64}
    for way, runner in zip(WAYS, runners.runners(given, 2), strict=True):
        consumes = backends.module(way.module).VARIANTS[way.variant].consumes
        assert runner.path.suffix == suffixes[consumes], way
        assert runner.record.sha256 == digests[consumes], way
        assert (runner.module, runner.record.variant, runner.record.name) == way
    assert len({way.label for way in WAYS}) == len(WAYS)
    assert WAYS[0].module == KERAS, "the first one is what the others' outputs are held against"


@pytest.mark.parametrize(("module", "variant"), [(LOOP, "cuda"), (LOOP, "tensorrt"), (POLYGRAPHY, "tensorrt")])
def test_a_peer_on_the_gpu_says_why_it_is_not_available(module: str, variant: str) -> None:
    if environment.gpus():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendUnavailable) as caught:
        backends.module(module).probe(variant)
    assert caught.value.hint


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda_provider")
@pytest.mark.parametrize("variant", ["cuda", "tensorrt"])
def test_the_loop_runs_on_the_gpu_or_says_that_it_fell_back(product: tuple[Path, np.ndarray], variant: str) -> None:
    path, weights = product
    x = np.ones((2, 8), np.float32)
    try:
        with backends.module(LOOP).load(path, LoadOptions(variant)) as session:
            assert session.device == "cuda:0"
            np.testing.assert_allclose(session.run({"x": x})["y"], x @ weights, rtol=1e-4)
    except BackendUnavailable as error:
        if variant == "cuda" or not ("fell back" in error.message or "no Tensorrt" in error.message):
            pytest.fail(error.message)


def files(tmp_path: Path, **changes: object) -> Files:
    onnx_path = tmp_path / "model.onnx"
    given = Files(tmp_path / "model.keras", onnx_path, "0" * 64, None, None, "no TensorRT", {"cpu": ()})
    return given._replace(**changes)


def test_all_get_the_same_file_and_threads_and_only_ours_steps_and_a_repeat(tmp_path: Path) -> None:
    step = Step(batch=256, chunk=64)
    found = runners.timed(files(tmp_path, steps={"cpu": (step,)}), threads=3)
    for one in found:
        record = one.runner.record
        assert (record.options.threads, record.options.allow_tf32, record.precision) == (3, False, "fp32")
        ours = (one.runner.module, record.variant) == (ONNXRUNTIME, "cpu")
        assert record.options.steps == ((step,) if ours else ())
    on_cpu = [one.runner for one in found if one.runner.path.suffix == ".onnx" and one.runner.device == "cpu"]
    assert {one.record.sha256 for one in on_cpu} == {"0" * 64}
    repeats = [one for one in found if one.repeat]
    assert str(repeats[0]) == "ours: ONNX Runtime (A/A repeat)"
    if not environment.gpus():
        assert len(repeats) == 1
        assert all("no NVIDIA GPU" in one.skip for one in found if one.runner.device == "cuda")


def test_outputs_other_than_keras_are_refused() -> None:
    keras, loop = (Timed(of(module, variant)) for module, variant in ((KERAS, "call"), (LOOP, "cpu")))
    differences: dict[str, float] = {}
    wrong = command._wrong("net", 4, differences)
    scores = np.random.default_rng(0).dirichlet(np.ones(10), 4).astype(np.float32)
    right = {"probabilities": scores}
    assert wrong(keras, right, None) == ""
    assert wrong(loop, {"y": scores + 1e-6}, right) == ""
    assert differences == {"net/4/ONNX Runtime, bare loop": pytest.approx(1e-6, rel=0.1)}
    assert "differs from Keras by up to" in wrong(loop, {"y": scores[::-1]}, right)
    assert "NaN" in wrong(loop, {"y": scores * np.nan}, right)
    assert "Keras did not run" in wrong(loop, right, None)


def of(module: str, variant: str) -> Runner:
    """Return the runner of one of the ways."""
    (way,) = [way for way in WAYS if (way.module, way.variant) == (module, variant)]
    return runners.runner(way, files(Path()), 2)


def cell(
    module: str, variant: str, batch: int, p50_us: float, *, repeat: bool = False, spread: float = 0.01
) -> Measurement:
    """A timed cell: ten rounds about a median."""
    rounds = made_cells.around(p50_us, spread)
    return made_cells.measurement(of(module, variant), rounds, batch=batch, repeat=repeat)


def claims(bare_us: float, ours_us: float, again_us: float, batch: int, *, spread: float = 0.01) -> dict[str, str]:
    """The verdicts on these three: the rounds of ours and of its repeat are off by `spread`, in opposite directions."""
    cells = [
        cell(LOOP, "cpu", batch, bare_us),
        cell(ONNXRUNTIME, "cpu", batch, ours_us, spread=spread),
        cell(ONNXRUNTIME, "cpu", batch, again_us, repeat=True, spread=-spread),
    ]
    names = {"at most": "batch 1", "at least": "throughput", "not slower": "not slower", "contains 1": "A/A"}
    found = {}
    for claim in table.checks([table.Timed("article_cnn", cells)]):
        found[next(short for words, short in names.items() if words in claim.words)] = claim.verdict
    return found


def test_claims_hold_or_do_not_by_the_numbers() -> None:
    holds, fails, untold = table.HOLDS, table.FAILS, table.UNTOLD
    assert claims(20, 20, 20, 1) == {"batch 1": holds, "not slower": holds, "A/A": holds}
    assert claims(20, 22, 22, 1) == {"batch 1": fails, "not slower": fails, "A/A": holds}
    assert claims(20, 20, 30, 8)["A/A"] == fails
    assert claims(190, 100, 100, 1024) == {"throughput": holds, "not slower": holds, "A/A": holds}
    assert claims(170, 100, 100, 1024) == {"throughput": fails, "not slower": holds, "A/A": holds}
    assert claims(20, 20, 20, 1, spread=0.3) == {"batch 1": untold, "not slower": untold, "A/A": holds}
    assert claims(20, 60, 60, 1, spread=0.3) == {"batch 1": fails, "not slower": fails, "A/A": holds}
    assert claims(20, 10, 10, 1, spread=0.3) == {"batch 1": holds, "not slower": holds, "A/A": holds}


def test_the_table_holds_each_against_ours_and_says_what_is_missing() -> None:
    absent = cell(ONNXRUNTIME, "cuda", 1, 1)
    absent.status, absent.reason = "skipped", "no NVIDIA GPU here"
    cells = [cell(LOOP, "cpu", 1, 30), cell(ONNXRUNTIME, "cpu", 1, 20), cell(ONNXRUNTIME, "cpu", 1, 20, repeat=True)]
    timed = table.Timed("net", [*cells, absent])
    rows = table.rows(timed, "end_to_end")
    assert [row[1] for row in rows] == [
        "ONNX Runtime, bare loop",
        "ours: ONNX Runtime",
        "ours: ONNX Runtime (A/A repeat)",
    ]
    assert rows[0][5:] == ("1.50×", "1.50 – 1.50", "faster")
    assert rows[1][5:] == ("", "", "")
    assert rows[2][5] == "1.00×"
    assert table.missing(timed) == ["ours: ONNX Runtime CUDA: skipped: no NVIDIA GPU here"]
    assert "| 1 | ONNX Runtime, bare loop |" in table.markdown("net", rows)


SUMMARY = """\
[10/03/2024-10:47:59] [I] === Performance summary ===
[10/03/2024-10:47:59] [I] Throughput: 130.298 qps
[10/03/2024-10:47:59] [I] Latency: min = 5.38672 ms, max = 13.3664 ms, mean = 7.60628 ms, median = 7.16092 ms, percentile(90%) = 10.2996 ms
[10/03/2024-10:47:59] [I] H2D Latency: min = 0.0065918 ms, max = 0.0698242 ms, mean = 0.0122212 ms, median = 0.00814819 ms
[10/03/2024-10:47:59] [I] GPU Compute Time: min = 5.34595 ms, max = 13.3388 ms, mean = 7.58404 ms, median = 7.14139 ms, percentile(90%) = 10.2881 ms
[10/03/2024-10:47:59] [I] Total GPU Compute Time: 2.96536 s
"""  # noqa: E501


def test_reads_the_summary_of_trtexec() -> None:
    found = trtexec.parse(SUMMARY, 8)
    assert found["latency_p50_us"] == pytest.approx(7160.92)
    assert found["gpu_compute_p50_us"] == pytest.approx(7141.39)
    assert found["items_per_s"] == pytest.approx(130.298 * 8)
    assert trtexec.parse("&&&& FAILED", 8) == {"reason": "its summary could not be read"}


def test_says_where_there_is_no_trtexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    network = networks.NETWORKS[0]
    assert trtexec.run(tmp_path / "model.engine", network, 1)["reason"] == "trtexec is not on PATH"
    program = tmp_path / "trtexec"
    program.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{SUMMARY}END\n")
    program.chmod(0o755)
    found = trtexec.run(tmp_path / "model.engine", network, 4)
    assert found["command"] == [f"--loadEngine={tmp_path}/model.engine", "--shapes=image:4x28x28x1", "--useProfile=1"]
    assert found["items_per_s"] == pytest.approx(130.298 * 4)
    assert found["clock"] == "trtexec's own"


def test_polygraphy_is_not_given_an_engine_that_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tmp_path / "model.engine"
    engine.write_bytes(b"another")
    peer = backends.module(POLYGRAPHY)
    monkeypatch.setattr(peer, "probe", lambda variant: None)  # as on a machine with a GPU
    with pytest.raises(ArtifactError, match="not the engine"):
        peer.load(engine, LoadOptions("tensorrt", sha256="0" * 64)).__enter__()


def test_images_differ_and_are_the_same_each_time() -> None:
    for network in networks.NETWORKS:
        found = networks.images(network, 3)
        assert found.shape == (3, *network.image_shape)
        assert found.dtype == np.uint8
        assert (found[0] != found[1]).mean() > 0.9
        np.testing.assert_array_equal(found, networks.images(network, 3))


@pytest.mark.slow
def test_a_deep_networks_outputs_depend_on_the_image() -> None:
    """Else comparing outputs would prove nothing: with random weights as Keras leaves them, all images look alike."""
    network = next(network for network in networks.NETWORKS if network.name == "MobileNetV2")
    scores = np.asarray(networks.build(network)(networks.images(network, 4), training=False))
    tolerance = 1e-5 + 1e-4 * scores.max()
    assert np.abs(scores - scores[::-1]).max(axis=1).min() > 10 * tolerance


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600
    )


def test_an_unknown_network_is_named_with_those_there_are(tmp_path: Path) -> None:
    done = run("--only", "VGG16", f"--output={tmp_path}")
    assert done.returncode == 2
    assert "VGG16" in done.stderr
    assert "ResNet50" in done.stderr


@pytest.mark.long
def test_a_quick_run_leaves_a_table_and_the_raw_data(tmp_path: Path) -> None:
    done = run("--quick", f"--output={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    on_cpu = {way.label for way in WAYS if backends.module(way.module).VARIANTS[way.variant].device == "cpu"}
    timed = [row for row in found["cells"] if row["device"] == "cpu"]
    assert {row["status"] for row in timed} == {"ok"}, [row["reason"] for row in timed]
    assert {row["batch"] for row in timed} == set(command.QUICK_BATCHES)
    assert len(timed) == len(command.QUICK_BATCHES) * (len(on_cpu) + 1), "each way, and our repeat"
    compared = {name.split("/", 2)[2] for name in found["max_difference_from_keras"]}
    assert compared == on_cpu - {WAYS[0].label} | {"ours: ONNX Runtime (A/A repeat)"} | {"Keras model(x)"}
    assert max(found["max_difference_from_keras"].values()) < 1e-4
    (tuned,) = [one for one in found["networks"]["article_cnn"]["tuning"]["runners"] if one["variant"] == "cpu"]
    assert tuned["measured"]
    assert [row["batch"] for row in found["noise_floor"]] == list(command.QUICK_BATCHES)
    text = (tmp_path / "table.md").read_text()
    for label in on_cpu:
        assert f"| {label} |" in text
    verdicts = [line for line in text.splitlines() if line.startswith(("- holds:", "- does not", "- too noisy"))]
    assert len(verdicts) == len(found["claims"]) == 5  # batch 1, not slower twice, A/A twice
    with np.load(tmp_path / "samples.npz") as samples:
        assert len(samples.files) == len(timed) * command.QUICK.rounds
        one = next(row for row in timed if row["runner"]["backend"] == "onnxruntime_loop" and row["batch"] == 1)
        rounds = [samples[f"article_cnn/ONNX Runtime, bare loop/1/end_to_end/round{index}"] for index in range(3)]
        assert sum(map(len, rounds)) == one["timing"]["samples"]
        assert np.median([np.median(round_ns) for round_ns in rounds]) / 1e3 == pytest.approx(one["timing"]["p50_us"])
