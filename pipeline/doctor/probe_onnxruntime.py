"""Prints which of ONNX Runtime's providers run a graph here: `python -m pipeline.doctor.probe_onnxruntime [gpu]`."""

import json
import sys

if __name__ == "__main__":
    import numpy as np
    import onnxruntime as ort
    from onnx import TensorProto, helper

    gpu = "gpu" in sys.argv[1:]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    if gpu and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    loaded = []
    for provider in ort.get_available_providers():
        if provider == "CPUExecutionProvider" or (gpu and provider == "CUDAExecutionProvider"):
            session = ort.InferenceSession(model, settings, providers=[provider])
            session.run(None, {"x": np.zeros(1, np.float32)})
            if provider in session.get_providers():
                loaded.append(provider)
    print(json.dumps({"version": ort.__version__, "built_in": ort.get_available_providers(), "loaded": loaded}))
