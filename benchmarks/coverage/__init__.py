"""`make coverage-table`: which Keras layers come through export and TensorRT for RTX's build, measured."""
