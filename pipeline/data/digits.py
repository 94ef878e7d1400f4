"""The digits that come with scikit-learn: a small set that is always available."""

from dataclasses import replace

import numpy as np

from pipeline.data.splits import SPLIT_SEED, THE_ONLY, Dataset, Split, three_splits


def load(substitute: str = "") -> Dataset:
    """Return scikit-learn's 1,797 digits (UCI Optical Recognition of Handwritten Digits), enlarged to 28×28.

    8×8 pixels of 0 to 16 become 24×24 of 0 to 255 in a border of 2, so that the network is the article's, unchanged.
    `substitute` says why they stand in for MNIST, where they do.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    small = np.rint(source.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8]
    images = np.pad(small.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))[..., None]
    labels = source.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    test, rest = order[:360], order[360:]
    dataset = three_splits(
        "digits",
        "scikit-learn's digits, 8×8 enlarged to 28×28",
        Split({THE_ONLY: images[rest]}, {THE_ONLY: labels[rest]}),
        Split({THE_ONLY: images[test]}, {THE_ONLY: labels[test]}),
        validation=180,
        class_names={THE_ONLY: tuple("0123456789")},
    )
    return replace(dataset, substitute=substitute)
