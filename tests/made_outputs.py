"""Outputs and targets of every kind, made and not inferred, and the yardsticks that go with them."""

from typing import NamedTuple

import numpy as np

from pipeline.artifacts.dataset import DatasetRecord, PerSplit, TargetRecord
from pipeline.judging.choosing import Choosing
from pipeline.judging.yardstick import Yardstick
from pipeline.tensors import Array


class Kind(NamedTuple):
    """A kind of output: the task and the form that it is to be taken for, its numbers, and its targets."""

    task: str
    form: str
    outputs: Array
    targets: Array | None


SAMPLES, CLASSES = 60, 4


def softmax(logits: Array) -> Array:
    """Return the probabilities of logits over the last axis."""
    power = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (power / power.sum(axis=-1, keepdims=True)).astype(np.float32)


def kinds() -> dict[str, Kind]:
    """Return an output of every kind that is told from its looks, with labels and without."""
    random = np.random.default_rng(3)
    n, classes = SAMPLES, CLASSES
    logits = random.normal(0, 3, (n, classes)).astype(np.float32)
    label = random.integers(0, classes, n)
    label[:2] = 0, classes - 1
    one_hot = np.eye(classes)[label]
    tags = random.integers(0, 2, (n, classes))
    sigmoid = (1 / (1 + np.exp(-logits))).astype(np.float32)
    pixels = random.normal(0, 3, (n, 5, 6, classes)).astype(np.float32)
    mask = random.integers(0, classes, (n, 5, 6))
    mask[: n // 3] = 0
    unit = random.normal(size=(n, 8))
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)
    number = random.normal(20, 5, (n, 1)).astype(np.float32)
    yes = tags[:, 0]
    return {
        "softmax": Kind("classification", "probabilities", softmax(logits), label),
        "logits": Kind("classification", "logits", logits, label),
        "column of labels": Kind("classification", "logits", logits, label[:, None]),
        "one hot": Kind("classification", "probabilities", softmax(logits), one_hot.astype(np.float32)),
        "one hot, logits": Kind("classification", "logits", logits, one_hot.astype(np.int64)),
        "fully convolutional": Kind("classification", "probabilities", softmax(logits)[:, None, None], label),
        "several labels": Kind("classification", "several probabilities", sigmoid, tags),
        "several labels, logits": Kind("classification", "several logits", logits, tags.astype(np.float32)),
        "yes or no": Kind("classification", "one probability", sigmoid[:, :1], yes),
        "yes or no, logit": Kind("classification", "one logit", logits[:, :1], yes.astype(np.float32)),
        "class number": Kind("classification", "class numbers", label.astype(np.int64), label),
        "number": Kind("regression", "", number, number[:, 0] + 1),
        "counts": Kind("regression", "", number, np.rint(number[:, 0]).astype(np.int64)),
        "numbers": Kind("regression", "", logits, logits + 1),
        "image to image": Kind("regression", "", pixels, pixels / 2),
        "pixels": Kind("segmentation", "scores", softmax(pixels), mask),
        "pixels, one hot": Kind("segmentation", "scores", softmax(pixels), np.eye(classes)[mask]),
        "two classes": Kind("segmentation", "one probability", softmax(pixels)[..., :1], (mask > 1).astype(np.uint8)),
        "two classes, logits": Kind("segmentation", "one logit", pixels[..., :1], (mask > 1)[..., None].astype("f4")),
        "mask": Kind("segmentation", "class numbers", mask.astype(np.int32), mask),
        "softmax, no labels": Kind("classification", "probabilities", softmax(logits), None),
        "yes or no, no labels": Kind("classification", "one probability", sigmoid[:, :1], None),
        "number, no labels": Kind("regression", "", number, None),
        "few numbers, no labels": Kind("regression", "", logits, None),
        "image, no labels": Kind("regression", "", pixels, None),
        "pixels, no labels": Kind("segmentation", "scores", softmax(pixels), None),
        "mask, no labels": Kind("segmentation", "class numbers", mask.astype(np.int32), None),
        "unit vectors": Kind("similarity", "", unit, None),
        "embedding": Kind("similarity", "", random.normal(size=(n, 32)).astype(np.float32), None),
    }


def dataset(**targets: Array) -> DatasetRecord:
    """Return the record of data with these targets."""
    three = PerSplit[str](train="1", validation="2", test="3")
    records = tuple(
        TargetRecord(
            name=name,
            shape=(None, *rows.shape[1:]),
            dtype=rows.dtype.name,
            class_names=(),
            largest=int(rows.max()) if rows.dtype.kind in "iu" else None,
        )
        for name, rows in targets.items()
    )
    samples = PerSplit[int](train=1, validation=1, test=1)
    return DatasetRecord(
        name="made", origin="numbers", substitute="", samples=samples, inputs=(), targets=records, sha256=three
    )


def yardstick(outputs: Array, targets: Array | None, task: str = "auto", budget: str | float = "auto") -> Yardstick:
    """Return by what an output called `out` is judged."""
    known = {} if targets is None else {"out": targets}
    (found,) = Choosing(dataset(**known), task, budget).yardsticks({"out": outputs}, known)
    return found
