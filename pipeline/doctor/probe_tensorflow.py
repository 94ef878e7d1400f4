"""Prints what TensorFlow says of itself: `python -m pipeline.doctor.probe_tensorflow`."""

import json

if __name__ == "__main__":
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    print(json.dumps({"version": tf.__version__, "gpus": names}))
