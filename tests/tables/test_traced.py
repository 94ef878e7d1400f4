"""Values that know where they stand."""

import made_records
import pytest

from pipeline.artifacts import PUBLISHED
from pipeline.artifacts.disagreements import Disagreements
from pipeline.artifacts.manifest import Fingerprint
from pipeline.artifacts.results import Cell
from pipeline.tables import Traced
from pipeline.tables.traced import pairs, plain


def test_a_field_of_a_model_knows_its_place() -> None:
    cell = Traced(made_records.cell(made_records.FP32, 1, 20.0), "benchmark/results.json", "/cells/3")
    assert cell.timing.p50_us.source == "benchmark/results.json#/cells/3/timing/p50_us"
    assert cell.timing.p50_us.plain == 20.0
    assert [one.source.rpartition("/")[2] for one in cell.timing.p50_ci95_us] == ["0", "1"]
    assert cell.runner.file.plain == made_records.FP32.file, "a field called as something of Traced's own would be lost"
    assert str(cell.runner.name) == made_records.FP32.name


def test_no_field_of_an_artifact_is_hidden_by_traced() -> None:
    own = {name for name in vars(Traced) if not name.startswith("_")}
    seen: set[type] = set()

    def fields(model: type) -> set[str]:
        if model in seen or not hasattr(model, "model_fields"):
            return set()
        seen.add(model)
        names = set(model.model_fields)
        for field in model.model_fields.values():
            for inner in _models(field.annotation):
                names |= fields(inner)
        return names

    assert not own & set().union(*(fields(model) for model in PUBLISHED))


def _models(annotation: object) -> list[type]:
    inner = [one for part in getattr(annotation, "__args__", ()) for one in _models(part)]
    return [*inner, annotation] if isinstance(annotation, type) else inner


def test_a_field_is_found_under_the_name_that_its_file_has() -> None:
    found = Disagreements(drawn_at_most=12, runners=())
    assert Traced(found, "f").schema_.pointer == "/schema"
    assert Traced(found, "f").drawn_at_most.pointer == "/drawn_at_most"


def test_keys_of_data_are_escaped() -> None:
    known = Fingerprint(inputs={"a/b~c": "1"}, configuration={}, versions={})
    traced = Traced(known, "stage/manifest.json")
    assert traced.inputs["a/b~c"].source == "stage/manifest.json#/inputs/a~1b~0c"
    assert [(key, value.plain) for key, value in traced.inputs.pairs()] == [("a/b~c", "1")]
    assert list(pairs(known.inputs)) == [("a/b~c", "1")]
    assert [plain(value) for _, value in pairs(traced.inputs)] == ["1"]


def test_what_is_not_there_is_no_field() -> None:
    cell = Traced(made_records.cell(made_records.FP32, 1, 20.0), "f")
    with pytest.raises(AttributeError, match="no field 'p50_us'"):
        _ = cell.p50_us
    with pytest.raises(AttributeError):
        _ = cell.key  # a property is in no file
    assert not hasattr(cell, "__html__")
    with pytest.raises(TypeError):
        iter(cell)


def test_what_is_empty_is_false() -> None:
    assert not Traced(None, "f")
    assert not Traced((), "f")
    assert Traced((0.0, 0.0), "f")
    assert str(Traced(None, "f")) == ""
    assert len(Traced((1, 2), "f")) == 2


def test_a_machine_is_no_model_and_has_fields_too() -> None:
    assert Traced(made_records.MACHINE, "f", "/machine").cpu.source == "f#/machine/cpu"


def test_a_cell_names_its_samples() -> None:
    repeat: Cell = made_records.cell(made_records.FP32, 16, 20.0, repeat=True)
    assert repeat.key == "onnxruntime cpu fp32.repeat/16/end_to_end"
    assert made_records.cell(made_records.FP32, 16, 20.0).key == "onnxruntime cpu fp32/16/end_to_end"
