"""The coverage table's fast cases come through, each in a process of its own; the page tells what did not."""

import pytest

from benchmarks.coverage import table
from benchmarks.coverage.case import BY_PYTORCH, NOT_APPLICABLE, NOT_BY_PYTORCH, OK, STEPS
from benchmarks.coverage.child import in_a_child
from benchmarks.coverage.every import BY_KEY


@pytest.mark.long
def test_the_fast_cases_come_through() -> None:
    fast = [key for key, case in BY_KEY.items() if case.fast]
    assert 10 <= len(fast) <= 16
    found = {key: in_a_child(key, patience=60) for key in fast}
    assert {
        key: {step: row.get(step) for step in STEPS if row.get(step) not in (OK, NOT_APPLICABLE)}
        for key, row in found.items()
    } == {key: {} for key in fast}


def test_a_case_that_takes_too_long_is_ended() -> None:
    assert in_a_child("core: Dense", patience=0.01) == {"export": "took more than 0.01 s"}


def test_the_page_counts_and_gives_reasons() -> None:
    good = dict.fromkeys(STEPS, OK) | {"commit": "abc"}
    results = {
        "core: Dense": good,
        "core: Embedding": good | {"fp16": NOT_APPLICABLE},
        "shapes: Flatten": {"export": "no | way_out", NOT_BY_PYTORCH: "not set up", "commit": "abc"},
        "shapes: Reshape": good | {BY_PYTORCH: "no operator"},
    }
    keys = ["core: Dense", "core: Embedding", "shapes: Flatten", "shapes: Reshape", "shapes: Permute"]
    page = table.markdown(keys, results, "keras 3")
    assert "4 of 5 cases, on commit abc; keras 3." in page
    assert "| core | 2 | 2 | 2 | 2 | 2 | 2 | 2 | 0 |" in page
    assert "| shapes | 2 | 1 | 1 | 1 | 1 | 1 | 1 | 1 |" in page
    assert "| Reshape | ✓ᴾ | ✓ | ✓ | ✓ | ✓ |" in page
    assert "- **Flatten**, ONNX by PyTorch: not set up" in page
    assert "- **Reshape**, ONNX by PyTorch, since tf2onnx failed: no operator" in page
    assert "| Embedding | ✓ | ✓ | ✓ | – | ✓ |" in page
    assert "| Flatten | ✗ |  |  |  |  |" in page
    assert "- **Flatten**, ONNX: no \\| way\\_out" in page
