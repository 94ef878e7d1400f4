"""A data set from a function of the user's own (`data.source`)."""

from dataclasses import replace
from typing import Any

import numpy as np

from pipeline import user_code
from pipeline.data.splits import Dataset, Split, three_splits
from pipeline.errors import DataError


def load(source: str) -> Dataset:
    """Call the user's function: it returns a Dataset, or ((train images, labels), (test images, labels)) as Keras.

    Raises:
        DataError: there is no such function, or what it returns cannot be used, and why.
    """
    result = user_code.import_function(source, "data.source")()
    try:
        if isinstance(result, Dataset):
            train, validation, test = (
                _checked(split.images, split.labels) for split in (result.train, result.validation, result.test)
            )
            _check_alike(train, validation, test)
            return replace(result, train=train, validation=validation, test=test, name=source)
        (train_images, train_labels), (test_images, test_labels) = result
        train, test = _checked(train_images, train_labels), _checked(test_images, test_labels)
        _check_alike(train, test)
        if len(train) < 2:
            raise ValueError("1 training sample is too few: one is for validation")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"data.source {source}: {error}",
            "Return ((train_images, train_labels), (test_images, test_labels)): images uint8 [n, height, width, "
            "channels], labels integers [n] from 0; or a pipeline.data.Dataset.",
        ) from error
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    return three_splits(
        source,
        "data.source",
        train,
        test,
        validation=max(1, len(train) // 10),
        class_names=tuple(str(index) for index in range(classes)),
    )


def _check_alike(*splits: Split) -> None:
    shapes = [list(split.images.shape[1:]) for split in splits]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"the splits' images differ in shape: {', '.join(map(str, shapes))}")


def _checked(images: Any, labels: Any) -> Split:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise ValueError(f"images are {images.dtype} {list(images.shape)}, not uint8 [n, height, width, channels]")
    if not np.issubdtype(labels.dtype, np.integer) or labels.size != len(images) or labels.size == 0:
        raise ValueError(f"labels are {labels.dtype} {list(labels.shape)} for {len(images)} images")
    if labels.min() < 0:
        raise ValueError(f"the smallest label is {labels.min()}; they count from 0")
    images = images[..., None] if images.ndim == 3 else images
    return Split(np.ascontiguousarray(images), labels.reshape(-1).astype(np.int64))
