"""The coverage table's fast cases come through, each in a process of its own; the page tells what did not."""

import pytest

from benchmarks.coverage import table
from benchmarks.coverage.case import NOT_APPLICABLE, OK, STEPS
from benchmarks.coverage.child import in_a_child
from benchmarks.coverage.every import BY_KEY


@pytest.mark.slow
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
        "shapes: Flatten": {"export": "no | way_out", "commit": "abc"},
    }
    page = table.markdown(["core: Dense", "core: Embedding", "shapes: Flatten", "shapes: Permute"], results, "keras 3")
    assert "3 of 4 cases, on commit abc; keras 3." in page
    assert "| core | 2 | 2 | 2 | 2 | 2 | 2 | 2 |" in page
    assert "| shapes | 1 | 0 | 0 | 0 | 0 | 0 | 0 |" in page
    assert "| Embedding | ✓ | ✓ | ✓ | – | ✓ |" in page
    assert "| Flatten | ✗ |  |  |  |  |" in page
    assert "- **Flatten**, ONNX: no \\| way\\_out" in page
