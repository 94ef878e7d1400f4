"""The networks that are compared, each taken through our stages train and export."""

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import networks
from benchmarks.networks import Network
from pipeline import environment
from pipeline.config import Config
from pipeline.config.loading import load
from pipeline.errors import BuildError

CALIBRATION, HELD_OUT = 128, 64
"""Images of a network of random weights to calibrate on; and to validate with, and to test with."""


class Case(NamedTuple):
    """A network; `trained` on MNIST, or the digits where that is not at hand, else of random weights."""

    network: Network
    trained: bool = False

    @property
    def name(self) -> str:
        """The network's."""
        return self.network.name


CASES = (
    Case(networks.NETWORKS[0], trained=True),
    Case(Network("MobileNetV2", (112, 112, 3), 1000, (1, 8, 32))),
    Case(Network("ResNet50", (112, 112, 3), 1000, (1, 8, 32))),
    Case(Network("EfficientNetV2B0", (112, 112, 3), 1000, (1, 8, 32))),
)
"""Of 112 × 112 pixels, where the published size is 224: a quarter of the time, and the same graph."""


def exported(case: Case, folder: Path) -> Config:
    """Train or adopt the model, and export it, below `folder`; return the configuration that says where.

    What is up to date there is taken as it is.

    Raises:
        BuildError: a stage failed, with its words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    smallest, best, largest = case.network.batch_sizes[0], case.network.batch_sizes[-2], case.network.batch_sizes[-1]
    options = [
        f"artifacts={folder / 'artifacts'}",
        f"engine.profiles=[[{smallest}, {best}, {largest}]]",
    ]
    if not case.trained:
        model, data = folder / "model.keras", folder / "samples.npz"
        anew = multiprocessing.get_context("spawn")  # so that this process keeps nothing of TensorFlow
        with ProcessPoolExecutor(1, mp_context=anew) as pool:
            pool.submit(_write, case.network, model, data).result()
        options += [f"model.source={model}", f"data.source={data}", f"engine.calibration_samples={CALIBRATION}"]
    for stage in ("train", "export"):
        command = [sys.executable, "-m", "pipeline", stage, *(f"--set={option}" for option in options)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BuildError(f"{case.name}: {stage} failed: {done.stderr.strip() or done.stdout.strip()}")
    return load(None, options, {})


def _write(network: Network, model: Path, data: Path) -> None:
    """Write the Keras model and images for the three splits, without labels."""
    environment.prepare_tensorflow()
    with environment.native_log_hidden():
        networks.build(network).save(model)
    images = networks.images(network, CALIBRATION + 2 * HELD_OUT)
    train, validation, test = np.split(images, [CALIBRATION, CALIBRATION + HELD_OUT])
    np.savez(data, x_train=train, x_validation=validation, x_test=test)
