"""Every case, by its key; importing this imports TensorFlow."""

from benchmarks.coverage.case import Case
from pipeline import environment

environment.prepare_tensorflow()
with environment.native_log_hidden():
    from benchmarks.coverage.kerashub import KERASHUB
    from benchmarks.coverage.layers import LAYERS
    from benchmarks.coverage.operations import OPERATIONS
    from benchmarks.coverage.preprocessing import APPLICATIONS, PREPROCESSING

BY_KEY: dict[str, Case] = {case.key: case for case in (*LAYERS, *PREPROCESSING, *OPERATIONS, *APPLICATIONS, *KERASHUB)}
