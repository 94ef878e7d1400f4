"""The batches of an epoch: each sample once, in an order that seed and epoch fix, from any step on; and the wait."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline import environment
from pipeline.data import Split

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras

    from pipeline.models import calling
    from pipeline.training import feeding
    from pipeline.training.feeding import Feeder

SAMPLES, BATCH, STEPS = 22, 5, 5


class Slow:
    """Samples that take their time to be read, as those of a slow disk."""

    shape, dtype = (SAMPLES, 1), np.dtype(np.float32)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, which: Any) -> Any:
        time.sleep(0.05)
        return np.arange(SAMPLES, dtype=np.float32)[:, None][which]


def model() -> Any:
    taken = keras.Input((1,), name="a")
    return calling.caller(keras.Model(taken, keras.layers.Dense(1, name="p")(taken)))


def split(rows: Any = None) -> Split:
    numbers = np.arange(SAMPLES, dtype=np.float32)[:, None]
    return Split({"a": numbers if rows is None else rows}, {"p": 10 * numbers})


def read(feeder: Feeder, first: int = 0) -> list[tuple[list[float], list[float]]]:
    """Return the inputs and targets of each batch."""
    return [(x.numpy().ravel().tolist(), y.numpy().ravel().tolist()) for x, y in feeder.batches(first)]


def test_each_sample_comes_once_with_its_target() -> None:
    batches = read(Feeder(split(), model(), BATCH, STEPS, seed=3))
    assert [len(x) for x, _ in batches] == [5, 5, 5, 5, 2]
    assert sorted(one for x, _ in batches for one in x) == list(range(SAMPLES))
    assert all([10 * one for one in x] == y for x, y in batches)


def test_seed_and_epoch_fix_the_order_from_any_step_on() -> None:
    feeder, same = (Feeder(split(), model(), BATCH, STEPS, seed=3) for _ in range(2))
    first = read(feeder)
    assert read(feeder) == read(same) == first
    assert read(same, 3) == first[3:]
    feeder.epoch = same.epoch = 1
    second = read(feeder)
    assert second != first
    assert read(same, 2) == second[2:]
    assert read(Feeder(split(), model(), BATCH, STEPS, seed=4)) != first


def test_the_wait_for_data_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr("pipeline.environment.cpu_count", lambda: 1)
    feeder = Feeder(split(Slow()), model(), BATCH, STEPS, seed=0)
    assert not feeder.in_memory
    started = time.monotonic()
    read(feeder)
    took = time.monotonic() - started
    assert 0.05 * STEPS / 2 < float(feeder.waited.numpy()) <= took, "nothing else was done meanwhile"
    feeder.waited.assign(0.0)
    for _ in feeder.batches():
        time.sleep(0.12)  # the next batch is read meanwhile
    assert float(feeder.waited.numpy()) < 0.05 * STEPS / 2 + 0.05


def test_batches_are_brought_to_a_device_ahead_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the processor, where there is no GPU: what brings them is the same."""
    ahead = Feeder(split(), model(), BATCH, STEPS, seed=3, device="/cpu:0")
    assert read(ahead, 1) == read(Feeder(split(), model(), BATCH, STEPS, seed=3), 1)
    monkeypatch.setattr(feeding, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr("pipeline.environment.cpu_count", lambda: 1)
    slow = Feeder(split(Slow()), model(), BATCH, STEPS, seed=0, device="/cpu:0")
    read(slow)
    assert float(slow.waited.numpy()) > 0.05 * STEPS / 2, "what brings them waits as long as the device"


def test_what_reading_raised_is_kept() -> None:
    class Gone(Slow):
        def __getitem__(self, which: Any) -> Any:
            raise FileNotFoundError("7.png")

    known = SimpleNamespace(**{"limit": feeding.IN_MEMORY_BYTES})
    feeding.IN_MEMORY_BYTES = 0
    try:
        feeder = Feeder(split(Gone()), model(), BATCH, STEPS, seed=0)
    finally:
        feeding.IN_MEMORY_BYTES = known.limit
    with pytest.raises(Exception, match=r"7\.png"):
        read(feeder)
    assert isinstance(feeder.error, FileNotFoundError)
