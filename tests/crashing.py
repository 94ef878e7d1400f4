"""A graph that TensorRT for RTX dies of."""

import onnx
import onnx.parser


def counted() -> onnx.ModelProto:
    """Return what `keras.ops.bincount` is exported as, in short. TensorRT for RTX 1.7.1 dies of it."""
    return onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        counted (int32[n, 6] x) => (float[n, d] y) <int64[1] last = {-1}, float[2] values = {0, 1}> {
            peak = ReduceMax <keepdims = 0> (x)
            wide = Cast <to = 7> (peak)
            depth = Reshape (wide, last)
            indices = Cast <to = 7> (x)
            hot = OneHot (indices, depth, values)
            y = ReduceSum <keepdims = 0> (hot, last)
        }"""
    )
