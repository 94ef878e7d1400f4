"""What a recipe decides where the configuration is silent."""

import pytest

from pipeline import environment
from pipeline.config import ARTICLE_CNN, Train

environment.prepare_tensorflow()
with environment.native_log_hidden():
    from pipeline.training.recipes import plan


@pytest.mark.parametrize(
    ("options", "source", "samples", "expected"),
    [
        ({}, ARTICLE_CNN, 55_000, (2, 128, 430, 0.015, "one_cycle")),
        ({}, ARTICLE_CNN, 1_257, (10, 32, 40, 0.015, "one_cycle")),
        ({"recipe": "article"}, ARTICLE_CNN, 55_000, (5, 32, 1_719, 0.001, "constant")),
        ({"recipe": "article"}, ARTICLE_CNN, 1_257, (25, 32, 40, 0.001, "constant")),
        ({}, "own:model", 55_000, (5, 32, 1_719, 0.001, "one_cycle")),
        ({"epochs": 3, "batch_size": 100}, ARTICLE_CNN, 1_250, (3, 100, 13, 0.015, "one_cycle")),
        ({"learning_rate": 0.5, "schedule": "cosine"}, ARTICLE_CNN, 55_000, (2, 128, 430, 0.5, "cosine")),
    ],
)
def test_a_plan(options: dict[str, object], source: str, samples: int, expected: tuple[object, ...]) -> None:
    found = plan(Train(**options), source, samples)  # type: ignore[arg-type]
    assert (found.epochs, found.batch, found.steps, found.learning_rate, found.schedule) == expected


def test_a_batch_that_cannot_be_shared_evenly_is_left_out() -> None:
    assert plan(Train(batch_size=8), ARTICLE_CNN, 61, devices=2).steps == 7, "of the last 5 one would have 3"
    assert plan(Train(batch_size=8), ARTICLE_CNN, 62, devices=2).steps == 8


def test_a_model_with_one_batch_size_is_trained_in_it() -> None:
    found = plan(Train(batch_size=8), "own:model", 62, fixed_batch=4)
    assert (found.batch, found.steps) == (4, 15)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_the_rate_is_highest_where_it_should_be_and_ends_at_0(schedule: str) -> None:
    found = plan(Train(schedule=schedule, epochs=4, learning_rate=0.25), ARTICLE_CNN, 3_200)  # type: ignore[arg-type]
    total, rate = found.epochs * found.steps, found.rate()
    if not callable(rate):
        assert (schedule, rate) == ("constant", 0.25)
        return
    values = [float(rate(step)) for step in range(total + 1)]
    highest = total // 4 if schedule == "one_cycle" else 0
    assert values[highest] == max(values) == pytest.approx(0.25)
    assert values[-1] == pytest.approx(0, abs=1e-6)
    assert (values[0] == 0) == (schedule == "one_cycle")
