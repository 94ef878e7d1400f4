"""Audio keywords: five sounds in noise, told apart by their mel spectrogram, which the model computes itself."""

from pathlib import Path

import keras
import numpy as np
from keras import layers

FOLDER = Path("build/examples/audio")
RATE = 8000
"""Samples per second; a clip is half a second."""

SOUNDS = ("silence", "tone", "rising", "falling", "two tones")


def build() -> keras.Model:
    """Return a network that takes the wave itself, [samples, RATE / 2]."""
    wave = keras.Input((RATE // 2,), name="wave")
    x = layers.MelSpectrogram(
        fft_length=256, sequence_stride=128, sampling_rate=RATE, num_mel_bins=32, max_freq=4000, name="spectrogram"
    )(wave)
    x = layers.Rescaling(1 / 40)(x)  # decibels, 0 to -80 or so
    x = layers.Reshape((*x.shape[1:], 1))(x)
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    return keras.Model(wave, layers.Dense(len(SOUNDS), activation="softmax", name="sound")(x), name="audio")


def speak(sound: int, random: np.random.Generator) -> np.ndarray:
    """Return half a second of one sound, of random pitch, loudness and beginning, in noise."""
    t = np.arange(RATE // 2) / RATE
    pitch, other = random.uniform(400, 1500), random.uniform(1.3, 1.7)
    sweep = {"rising": 2000.0, "falling": -600.0}.get(SOUNDS[sound], 0.0)
    wave = np.sin(2 * np.pi * (pitch * t + sweep * t**2 / 2))
    if SOUNDS[sound] == "two tones":
        wave = (wave + np.sin(2 * np.pi * other * pitch * t)) / 2
    start = random.uniform(0, 0.2)
    heard = (t >= start) & (t < start + 0.3) & (SOUNDS[sound] != "silence")
    return random.uniform(0.1, 0.5) * wave * heard + random.normal(0, 0.1, len(t))


def samples(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return clips [samples, RATE / 2] and which sound each is."""
    random = np.random.default_rng(seed)
    sounds = np.arange(count) % len(SOUNDS)
    return np.stack([speak(sound, random) for sound in sounds]).astype(np.float32), sounds


def main(epochs: int = 8) -> None:
    """Train, and save the model and the samples."""
    keras.utils.set_random_seed(0)
    x, y = samples(1500, seed=0)
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=epochs, verbose=0)

    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save(FOLDER / "model.keras")
    x_validation, y_validation = samples(300, seed=1)
    x_test, y_test = samples(500, seed=2)
    np.savez(
        FOLDER / "samples.npz",
        **{"x_train": x, "x_validation": x_validation, "x_test": x_test},
        **{"y_train": y, "y_validation": y_validation, "y_test": y_test},
    )


if __name__ == "__main__":
    main()
