"""What Triton's containers carry, as far as their documentation says: anything else would be a guess.

CUDA: the release notes ("Release 26.08 is based on CUDA 13.4.1"). ONNX Runtime: docs/introduction/compatibility.md of
triton-inference-server/server. Neither names the TensorRT of the plain image (`-py3`), only that of the image
`-trtllm-python-py3`, which is based on another release: so `build_plan.sh` asks for it in the container.
"""

from typing import NamedTuple

from pipeline.artifacts.bundle import ContainerRecord


class _Release(NamedTuple):
    cuda: str | None = None
    onnxruntime: str | None = None
    tensorrt: str | None = None


_RELEASES = {
    "26.02": _Release(cuda="13.1.1", onnxruntime="1.24.1"),
    "26.06": _Release(cuda="13.3.0", onnxruntime="1.24.4"),
    "26.07": _Release(cuda="13.3.1", onnxruntime="1.27.0"),
    "26.08": _Release(cuda="13.4.1"),
    "26.10": _Release(cuda="13.4.3.001"),
}


def container(release: str) -> ContainerRecord:
    """Return what is known of a release's container."""
    known = _RELEASES.get(release, _Release())
    return ContainerRecord(
        release=release,
        image=f"nvcr.io/nvidia/tritonserver:{release}-py3",
        tensorrt=known.tensorrt,
        cuda=known.cuda,
        onnxruntime=known.onnxruntime,
    )
