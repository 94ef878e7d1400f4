"""Recipes: the batch, the rate and the length of a training where the configuration leaves them open."""

import math
from dataclasses import dataclass
from typing import Literal

import keras

from pipeline.config import ARTICLE_CNN, AUTO, Train
from pipeline.errors import ConfigError

Schedule = Literal["constant", "cosine", "one_cycle"]

WARM_UP = 0.25
"""The part of a one-cycle schedule in which the rate rises (Smith, arXiv:1708.07120); then it falls to 0."""

FEW_SAMPLES = 10_000
"""Below so many training samples the batch is a recipe's smaller one: an epoch of large batches has too few steps."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: Adam at this rate, for these epochs, or as many as make `least_steps`."""

    batch: int
    batch_of_few: int
    learning_rate: float
    schedule: Schedule
    epochs: int
    least_steps: int


ARTICLE = Recipe(batch=32, batch_of_few=32, learning_rate=1e-3, schedule="constant", epochs=5, least_steps=1_000)
"""The article's script to the letter. Five epochs of the 1,257 digits would end at 0.945; 1,000 steps end at 0.97."""

FAST_ARTICLE_CNN = Recipe(
    batch=128, batch_of_few=32, learning_rate=1.5e-2, schedule="one_cycle", epochs=2, least_steps=400
)
"""The least time in which the article's network reaches the article's accuracy; measured in docs/measured.md."""

FAST = Recipe(batch=32, batch_of_few=32, learning_rate=1e-3, schedule="one_cycle", epochs=5, least_steps=1_000)
"""For networks of which nothing is known: a rate ten times as high would break many, and two epochs are few."""


@dataclass(frozen=True)
class Plan:
    """How a model is trained: what the configuration says, and the recipe where it is silent."""

    recipe: str
    epochs: int
    batch: int
    steps: int
    """Of an epoch; its last batch may be smaller."""
    learning_rate: float
    schedule: Schedule

    def rate(self) -> float | keras.optimizers.schedules.LearningRateSchedule:
        """Return Adam's learning rate as Keras takes it."""
        total = self.epochs * self.steps
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "cosine":
            return keras.optimizers.schedules.CosineDecay(self.learning_rate, total)
        rising = max(1, round(WARM_UP * total))
        falling = max(1, total - rising)
        return keras.optimizers.schedules.CosineDecay(
            0.0, falling, warmup_target=self.learning_rate, warmup_steps=rising
        )


def plan(options: Train, source: str, samples: int, fixed_batch: int | None = None, devices: int = 1) -> Plan:
    """Return how a model is trained.

    Args:
        options: the section `train`.
        source: `model.source`.
        samples: how many there are to train on.
        fixed_batch: the only batch that the model takes, where it takes no other.
        devices: how many share each batch; the last one of an epoch is left out where they cannot share it evenly.

    Raises:
        ConfigError: the devices cannot share a batch evenly.
    """
    recipe = ARTICLE if options.recipe == "article" else FAST_ARTICLE_CNN if source == ARTICLE_CNN else FAST
    batch = recipe.batch if samples >= FEW_SAMPLES else recipe.batch_of_few
    if options.batch_size != AUTO:
        batch = options.batch_size
    batch = fixed_batch or batch
    if batch % devices:
        raise ConfigError(
            f"{devices} devices cannot share batches of {batch} evenly",
            f"Set train.batch_size to a multiple of {devices}.",
        )
    whole = fixed_batch is not None or samples % batch % devices
    steps = samples // batch if whole else math.ceil(samples / batch)
    epochs = max(recipe.epochs, math.ceil(recipe.least_steps / max(1, steps)))
    if options.epochs != AUTO:
        epochs = options.epochs
    return Plan(
        recipe=options.recipe,
        epochs=epochs,
        batch=batch,
        steps=steps,
        learning_rate=recipe.learning_rate if options.learning_rate == AUTO else options.learning_rate,
        schedule=recipe.schedule if options.schedule == AUTO else options.schedule,
    )
