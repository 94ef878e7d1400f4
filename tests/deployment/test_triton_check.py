"""Our check of a repository: every way to break one is refused with its reason, before Triton sees it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from triton_models import repository

from benchmarks.triton import broken
from pipeline.deployment.triton import check, schema
from pipeline.errors import BuildError


@pytest.fixture
def whole(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle's repository for ONNX Runtime."""
    return Path(shutil.copytree(bundle / "triton/onnxruntime", tmp_path / "repository"))


def _model(repository: Path) -> Path:
    return next(path for path in repository.iterdir() if path.is_dir())


def test_there_are_at_least_ten_ways_to_break_a_repository() -> None:
    assert len(broken.WAYS) >= 10


@pytest.mark.parametrize("way", broken.WAYS, ids=lambda way: way.name)
def test_a_broken_repository_is_refused_with_the_reason(way: broken.Broken, whole: Path) -> None:
    assert check.problems(whole) == []
    broken.apply(way, _model(whole))
    assert any(way.expected in problem for problem in check.problems(whole))
    with pytest.raises(BuildError, match="Triton would refuse"):
        check.check(whole)


@pytest.mark.parametrize(("name", "text"), broken.SCHEMA, ids=[name for name, _ in broken.SCHEMA])
def test_what_the_schema_does_not_hold_is_refused_with_its_place(name: str, text: str, whole: Path) -> None:
    path = _model(whole) / schema.FILE
    path.write_text(path.read_text() + text)
    (problem,) = check.problems(whole)
    assert "is not as the schema says" in problem
    assert f"{len(path.read_text().splitlines())}:" in problem, "the line is named"


def _edited(folder: Path, edit: Callable[[str], str]) -> list[str]:
    path = _model(folder) / schema.FILE
    path.write_text(edit(path.read_text()))
    return check.problems(folder)


def test_a_folder_without_models_and_a_model_without_a_configuration(tmp_path: Path) -> None:
    assert check.problems(tmp_path) == ["there is no model in it"]
    (tmp_path / "model").mkdir()
    assert "No such file" in check.problems(tmp_path)[0]


def test_a_file_that_is_no_model_is_named(whole: Path) -> None:
    (_model(whole) / "1/model.onnx").write_bytes(b"?" * 9)
    assert any("is not a readable ONNX model" in one for one in check.problems(whole))


def test_a_label_file_elsewhere_is_refused(whole: Path) -> None:
    (whole.parent / "labels.txt").write_text("0\n" * 10)
    found = _edited(whole, lambda text: text.replace('"probabilities.txt"', '"../../labels.txt"'))
    assert any("no label file" in one for one in found)


def test_another_file_than_the_backend_loads_is_refused(whole: Path) -> None:
    found = _edited(whole, lambda text: text + 'default_model_filename: "other.onnx"\n')
    assert any("default_model_filename" in one for one in found)


def test_backend_and_platform_must_agree(whole: Path) -> None:
    found = _edited(whole, lambda text: text + 'platform: "tensorrt_plan"\n')
    assert any("are not the same" in one for one in found)


def test_tensorrt_on_the_cpu_is_refused(bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle / "triton/tensorrt", tmp_path / "repository"))
    found = _edited(folder, lambda text: text.replace("count: 1", "count: 1 kind: KIND_CPU"))
    assert any("asks for the CPU" in one for one in found)


def test_a_fixed_batch_that_is_declared_dynamic_is_refused(tmp_path: Path) -> None:
    found = _edited(repository(tmp_path, "fixed"), lambda text: text + "max_batch_size: 4\n")
    assert any("max_batch_size must be 0" in one for one in found)


def test_a_warm_up_without_values_or_without_an_input_is_refused(tmp_path: Path) -> None:
    folder = repository(tmp_path, "several")
    assert any("says nothing" in one for one in _edited(folder, lambda text: text.replace("zero_data: true", "")))
    found = _edited(folder, lambda text: text + "model_warmup { name: 'empty' batch_size: 1 }\n")
    assert any("input 'offset' is missing" in one for one in found)


def test_an_open_size_of_the_model_may_be_fixed_and_not_the_other_way_round(tmp_path: Path) -> None:
    folder = repository(tmp_path, "several")
    text = (_model(folder) / schema.FILE).read_text()
    fixed = text.replace("dims: -1", "dims: 5")
    assert fixed != text
    assert _edited(folder, lambda _: fixed) == []
    found = _edited(folder, lambda _: text.replace("dims: 3", "dims: -1"))
    assert any("has the dims [-1, -1], and in the model [-1, 3]" in one for one in found)
