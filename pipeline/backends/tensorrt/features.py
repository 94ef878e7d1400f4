"""What an engine can be built to allow beside running here: other weights, other versions, other GPUs.

Each costs speed or needs what not every machine has, so none is asked for by default.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import ConfigError

FLAGS: Mapping[str, tuple[str, ...]] = {
    # Other weights of the same shapes.
    "refit": ("REFIT",),
    # Without weights; the same ones are put in by a refit. Where `refit` is not asked TensorRT adds REFIT_IDENTICAL.
    "strip": ("STRIP_PLAN",),
    # Without the lean runtime: it would be code inside the engine, which our loader refuses to run, and TensorRT for
    # RTX has none to put in.
    "version-compatible": ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"),
}
"""The builder's flags for each feature, in the order in which it takes them."""

LEVELS: Mapping[str, str] = {"ampere-plus": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}
"""The builder's level of hardware compatibility for each feature: at most one of them."""

NAMES = (*FLAGS, *LEVELS)

WEIGHTLESS = "the engine was stripped of its weights, and must be refitted with those of model.onnx before it can run"
"""Why an engine with the feature `strip` is neither judged nor timed."""


def check(features: Sequence[str]) -> None:
    """Raise ConfigError for an unknown feature, or two that exclude each other."""
    if unknown := [one for one in features if one not in NAMES]:
        raise ConfigError(f"unknown features: {', '.join(unknown)}", f"Choose from: {', '.join(NAMES)}.")
    if all(one in features for one in LEVELS):
        raise ConfigError(f"an engine has one level of hardware compatibility: {' or '.join(LEVELS)}")


def apply(trt: Any, config: Any, features: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """Ask for the features; return TensorRT's names of what it took, read back. `words` are what it logs.

    Raises:
        ConfigError: it did not take one, with its words.
    """
    taken = []
    for feature in features:
        for name in FLAGS.get(feature, ()):
            flag = trt.BuilderFlag.__members__[name]
            config.set_flag(flag)
            if not config.get_flag(flag):
                raise _refused(feature, words)
            taken.append(name)
        if feature in LEVELS:
            level = trt.HardwareCompatibilityLevel.__members__[LEVELS[feature]]
            config.hardware_compatibility_level = level
            if config.hardware_compatibility_level != level:
                raise _refused(feature, words)
            taken.append(LEVELS[feature])
    return tuple(taken)


def _refused(feature: str, words: Sequence[str]) -> ConfigError:
    return ConfigError(
        "\n".join([f"TensorRT does not take {feature!r}:", *words]),
        f"Leave {feature} out of engine.features"
        + ("; for other GPUs, name them in engine.targets." if feature in LEVELS else "."),
    )
