"""From a Keras model to a verified, timed TensorRT engine: train, export, engine, validate, benchmark, report."""

__version__ = "0.1.0"
