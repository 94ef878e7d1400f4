"""Every type of NumPy's, several inputs, and axes of any size, through unchanged clients and back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_bundle_of_types as made
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from servers import Server, serving
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from pipeline.serving import datatypes
from pipeline.serving.refusals import Refused
from pipeline.tensors import Array

HTTP, GRPC = tritonclient.http, tritonclient.grpc


@pytest.fixture(scope="module")
def typed(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a model that gives back what it is given."""
    folder = tmp_path_factory.mktemp("typed")
    made.make(bundle, folder / "bundle")
    with serving(folder / "bundle", folder / "log") as found:
        yield found


def _samples(random: np.random.Generator, count: int, axis: int) -> dict[str, Array]:
    found = {}
    for dtype, shape in made.SHAPES.items():
        sizes = [count, *(axis if size is None else size for size in shape)]
        found[dtype] = random.integers(0, 2 if dtype == "bool" else 100, sizes).astype(dtype)
    return found


def _inputs(module: Any, samples: dict[str, Array], **how: bool) -> list[Any]:
    found = []
    for dtype, rows in samples.items():
        one = module.InferInput(dtype, list(rows.shape), np_to_triton_dtype(rows.dtype))
        json = how if rows.dtype != np.float16 else {}  # the client sends halves as bytes only
        found.append(one.set_data_from_numpy(rows, **(json if module is HTTP else {})))
    return found


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("axis", [1, 5])
@pytest.mark.parametrize("way", ["http, bytes", "http, JSON", "grpc"])
def test_every_type_travels_there_and_back(
    typed: Server, random: np.random.Generator, count: int, axis: int, way: str
) -> None:
    module = GRPC if way == "grpc" else HTTP
    client = module.InferenceServerClient(typed.grpc_url if way == "grpc" else typed.http_url)
    samples, outputs = _samples(random, count, axis), None
    if way == "http, JSON":
        outputs = [HTTP.InferRequestedOutput(f"{dtype}_out", binary_data=False) for dtype in samples]
    found = client.infer("types", _inputs(module, samples, binary_data=way != "http, JSON"), outputs=outputs)
    for dtype, rows in samples.items():
        given = found.as_numpy(f"{dtype}_out")
        np.testing.assert_array_equal(given, rows)
        assert given.dtype == rows.dtype


def test_only_the_outputs_asked_for_come_in_their_order(typed: Server, random: np.random.Generator) -> None:
    asked = [HTTP.InferRequestedOutput(name) for name in ("int64_out", "bool_out")]
    samples = _samples(random, 2, 1)
    found = HTTP.InferenceServerClient(typed.http_url).infer("types", _inputs(HTTP, samples), outputs=asked)
    assert [one["name"] for one in found.get_response()["outputs"]] == ["int64_out", "bool_out"]
    np.testing.assert_array_equal(found.as_numpy("int64_out"), samples["int64"])


def test_an_input_left_out_or_of_other_samples_is_named(typed: Server, random: np.random.Generator) -> None:
    client, samples = HTTP.InferenceServerClient(typed.http_url), _samples(random, 2, 1)
    with pytest.raises(InferenceServerException, match="input float64 is missing"):
        client.infer("types", _inputs(HTTP, {key: rows for key, rows in samples.items() if key != "float64"}))
    with pytest.raises(InferenceServerException, match="different numbers of samples"):
        client.infer("types", _inputs(HTTP, samples | {"int8": samples["int8"][:1]}))


@pytest.mark.parametrize("dtype", sorted(datatypes.NAMES, key=str), ids=str)
def test_json_holds_every_type(dtype: "np.dtype[Any]") -> None:
    rows = np.array([[0, 1], [1, 0]]).astype(dtype)
    told = datatypes.to_json(rows, "x")
    np.testing.assert_array_equal(datatypes.from_json(told, dtype, (2, 2), "x"), rows)


def test_halves_of_googles_kind_have_a_name() -> None:
    assert datatypes.NAMES[np.dtype(ml_dtypes.bfloat16)] == "BF16"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_json_knows_no_infinity(value: float) -> None:
    with pytest.raises(Refused, match="ask for it binary"):
        datatypes.to_json(np.array([[value]], np.float32), "x")
