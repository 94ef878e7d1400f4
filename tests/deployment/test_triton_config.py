"""Triton's configuration of a model: what is written of each signature, and what was judged and measured of it."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from triton_models import SMALL, repository, wanted

from pipeline.artifacts.bundle import BundleRecord, Measured
from pipeline.artifacts.runner import BatchRange
from pipeline.deployment import bundle as bundles
from pipeline.deployment.triton import check, schema
from pipeline.deployment.triton.config import LONGEST_DELAY_US, Batching, build
from pipeline.errors import BackendUnavailable, BuildError
from pipeline.tensors import Signature, TensorSpec


@pytest.fixture(scope="module")
def record(bundle: Path) -> BundleRecord:
    return BundleRecord.read(bundle / bundles.RECORD)


def _first(record: BundleRecord, **update: object) -> BundleRecord:
    """Return the record with another first runner."""
    return record.model_copy(update={"runners": (record.runners[0].model_copy(update=update), *record.runners[1:])})


def test_dims_are_without_the_batch_that_triton_adds() -> None:
    config = build(wanted("several"))
    assert config.max_batch_size == 8
    assert [(one.name, list(one.dims)) for one in config.input] == [("sequence", [-1, 3]), ("offset", [1, 3])]
    assert [(one.name, list(one.dims)) for one in config.output] == [("moved", [-1, 3]), ("mean", [3])]


def test_a_fixed_batch_is_among_the_dims_and_nothing_is_put_together() -> None:
    config = build(wanted("fixed"))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [4, 2]
    assert not config.HasField("dynamic_batching")
    assert [(one.batch_size, list(one.inputs["x"].dims)) for one in config.model_warmup] == [(1, [4, 2])]


def test_a_sample_that_is_one_number_is_reshaped() -> None:
    config = build(wanted("number"))
    assert list(config.input[0].dims) == [1]
    assert config.input[0].HasField("reshape")
    assert not config.input[0].reshape.shape


def test_warm_up_has_the_smallest_and_the_largest_batch_with_the_sizes_of_dynamic_axes() -> None:
    config = build(wanted("several"))
    assert [one.batch_size for one in config.model_warmup] == [1, 8]
    assert list(config.model_warmup[0].inputs["sequence"].dims) == [5, 3]


def test_without_known_sizes_there_is_no_warm_up() -> None:
    assert not build(replace(wanted("several"), sizes={})).model_warmup


def test_no_kind_of_instance_is_named() -> None:
    config = build(replace(wanted("several", "tensorrt"), profiles=3))
    assert config.instance_group[0].kind == schema.messages().ModelInstanceGroup.KIND_AUTO
    assert list(config.instance_group[0].profile) == ["0", "1", "2"], "without them only the first profile is used"


def test_a_type_that_triton_lacks_is_named() -> None:
    odd = Signature((TensorSpec("wave", (None, 2), np.dtype("complex64")),), SMALL["fixed"].signature.outputs)
    with pytest.raises(BuildError, match=r"no type for wave complex64"):
        build(replace(wanted("several"), signature=odd))


@pytest.mark.parametrize("name", SMALL)
def test_what_is_written_passes_our_check(name: str, tmp_path: Path) -> None:
    assert check.problems(repository(tmp_path, name)) == []


def test_batching_is_what_was_judged_and_measured(record: BundleRecord) -> None:
    found = Batching.of(record)
    assert (found.largest, found.preferred) == (16, (16,)), "of 1 and 16: a single request is no batch to prefer"
    assert found.delay_us == round(record.runners[0].measured[0].p50_us or 0)


def test_a_delay_has_a_bound_and_none_was_measured_is_none(record: BundleRecord) -> None:
    slow = (Measured(batch=16, p50_us=9e6, items_per_s=1), Measured(batch=1, p50_us=8e6, items_per_s=1))
    assert Batching.of(_first(record, measured=slow)).delay_us == LONGEST_DELAY_US
    assert Batching.of(_first(record, measured=())).delay_us == 0


def test_the_largest_batch_is_one_that_the_runner_and_the_engine_take(record: BundleRecord) -> None:
    narrow = record.runners[0].runner.model_copy(update={"batches": BatchRange(smallest=1, largest=4)})
    assert Batching.of(_first(record, runner=narrow)) == replace(Batching.of(record), largest=4, preferred=())
    assert Batching.of(record, largest=8).largest == 8


def test_without_tritonclient_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    with pytest.raises(BackendUnavailable, match=r"keras-tensorrt-pipeline\[serve\]"):
        build(wanted("several"))
