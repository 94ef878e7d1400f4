"""A real tritonserver takes the repositories as they are, with a backend that stands in, and answers tritonclient."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from triton_models import SMALL, repository, wanted

from benchmarks.triton.server import running
from pipeline.deployment import bundle as bundles
from pipeline.deployment.triton import check, schema
from pipeline.deployment.triton.config import build
from pipeline.errors import BuildError

pytestmark = pytest.mark.triton


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt"])
def test_the_bundles_repository_loads_unchanged_and_answers_what_our_session_does(bundle: Path, backend: str) -> None:
    from benchmarks.triton.__main__ import load

    loaded = load(bundles.opened(bundle), backend)
    assert {answer.way.partition(",")[0] for answer in loaded.answers} == {"HTTP", "gRPC"}
    assert all(answer.largest_difference <= 1e-6 for answer in loaded.answers)
    assert max(loaded.batches) == 16, "the largest batch ran"
    assert loaded.label.isdigit()


def test_several_inputs_dynamic_axes_a_fixed_batch_and_single_numbers(tmp_path: Path) -> None:
    from tritonclient.grpc import InferenceServerClient, InferInput
    from tritonclient.utils import np_to_triton_dtype

    folder = repository(tmp_path / "repository", *SMALL)
    random = np.random.default_rng(0)
    with running(folder) as server, InferenceServerClient(server.grpc) as client:
        for name, small in SMALL.items():
            feed = {
                one.name: (random.random([size or 3 for size in one.shape]) * 9).astype(one.dtype)
                for one in small.signature.inputs
            }
            session = onnxruntime.InferenceSession(small.graph().SerializeToString())
            inputs = []
            for key, rows in feed.items():
                sent = rows if rows.ndim > 1 else rows[:, None]  # a number is [1] outside the model
                inputs.append(InferInput(key, sent.shape, np_to_triton_dtype(sent.dtype)))
                inputs[-1].set_data_from_numpy(sent)
            answer = client.infer(name, inputs)
            for output, rows in zip(small.signature.outputs, session.run(None, feed), strict=True):
                got = answer.as_numpy(output.name)
                np.testing.assert_array_equal(got.reshape(rows.shape), rows)


def test_versions_are_served_side_by_side(tmp_path: Path) -> None:
    from tritonclient.grpc import InferenceServerClient, InferInput

    folder = repository(tmp_path / "repository", "number")
    shutil.copytree(folder / "number/1", folder / "number/3")
    config = build(replace(wanted("number"), versions=(1, 3)))
    (folder / "number" / schema.FILE).write_text(schema.text(config), encoding="utf-8")
    assert check.problems(folder) == []
    with running(folder) as server, InferenceServerClient(server.grpc) as client:
        for version in ("1", "3"):
            given = InferInput("x", [2, 1], "INT64")
            given.set_data_from_numpy(np.array([[20], [21]]))
            answer = client.infer("number", [given], model_version=version)
            assert answer.get_response().model_version == version
            assert answer.as_numpy("y").ravel().tolist() == [40, 42]


def test_a_repository_that_triton_refuses_is_an_error_with_its_words_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repository", "fixed")
    (folder / "fixed").rename(folder / "another")
    there = {*Path("/dev/shm").iterdir()}
    with pytest.raises(BuildError, match=r"(?s)ended with 1.*fixed"), running(folder):
        pass
    assert not {path for path in {*Path("/dev/shm").iterdir()} - there if path.name.startswith("triton-")}
