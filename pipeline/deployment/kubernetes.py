"""Manifests that put a bundle's Triton repositories on Kubernetes: plain ones, and an InferenceService of KServe.

They are validated by schema (Kubernetes's own, KServe's client classes) and NOT run: each says so at its head. A bundle
is taken from a volume, read only; its claim is a placeholder to be named.
"""

import re
from pathlib import Path
from typing import Any

from pipeline import listing
from pipeline.artifacts.bundle import BundleRecord, ContainerRecord
from pipeline.config.deploying import Deploy
from pipeline.deployment.triton import releases
from pipeline.deployment.triton.schema import INSTALL
from pipeline.errors import BackendUnavailable

FOLDER = "kubernetes"
ONNX, PLAN, KSERVE = "triton.yaml", "triton-tensorrt.yaml", "kserve.yaml"

GPU = "nvidia.com/gpu"
PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}

_HEAD = """\
# {what}
#
# Validated by schema, NOT RUN where it was written. Before it is applied:
# - put the bundle, whole, on the volume that the claim {claim} stands for, and verify it there:
#   python -m pipeline verify FOLDER --set deploy.trusted_keys=KEY.pem
# - the requests and limits of CPU and memory are a start: set them to what you measure.
# - Triton asks nobody who they are: keep it inside the cluster, or put a gateway that does before it.
"""


def write(record: BundleRecord, options: Deploy, folder: Path) -> None:
    """Write the manifests into a bundle's folder, which has its models already.

    Raises:
        BackendUnavailable: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise BackendUnavailable(f"manifests cannot be written: {error}", INSTALL) from error
    name, container = dns_name(record.name), releases.container(options.triton_release)
    memory = _memory(folder)
    service = _service(name)
    manifests = {
        ONNX: ("Triton, ONNX Runtime backend.", [_onnxruntime(record, name, container, memory), service]),
        PLAN: (
            "Triton, TensorRT backend, on a GPU: the container's own TensorRT builds the plan before Triton starts.",
            [_tensorrt(name, container, memory), service],
        ),
        KSERVE: ("KServe, which runs Triton with the ONNX Runtime backend.", [_kserve(record, name, options, memory)]),
    }
    (folder / FOLDER).mkdir()
    for file, (what, documents) in manifests.items():
        text = _HEAD.format(what=what, claim=_claim(name)) + yaml.safe_dump_all(documents, sort_keys=False)
        (folder / FOLDER / file).write_text(text, encoding="utf-8")


def dns_name(name: str) -> str:
    """Return a name as Kubernetes takes it: small letters, digits and dashes, at most 50 so that suffixes fit."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].rstrip("-") or "model"


def _claim(name: str) -> str:
    return f"{name}-bundle"


def _memory(folder: Path) -> str:
    """Return a request of memory: 1 GiB for Triton, and four times the largest model."""
    largest = max(path.stat().st_size for path in listing.files(folder))
    return f"{1024 + 4 * largest // 2**20}Mi"


def _onnxruntime(record: BundleRecord, name: str, container: ContainerRecord, memory: str) -> dict[str, Any]:
    server = _server(container, "/bundle/triton/onnxruntime", _resources(record, memory))
    if _on_gpu(record) and not record.runners[0].runner.options.allow_tf32:
        server["env"] = [{"name": "NVIDIA_TF32_OVERRIDE", "value": "0"}]  # as it was judged
    server["volumeMounts"].append({"name": "bundle", "mountPath": "/bundle", "readOnly": True})
    return _deployment(name, server, [])


def _tensorrt(name: str, container: ContainerRecord, memory: str) -> dict[str, Any]:
    resources = {"requests": {"cpu": "1", "memory": memory, GPU: "1"}, "limits": {GPU: "1"}}
    server = _server(container, "/plans", resources)
    server["volumeMounts"].append({"name": "plans", "mountPath": "/plans", "readOnly": True})
    build = {
        "name": "build-plan",
        "image": container.image,
        "command": ["/bin/bash", "/bundle/triton/build_plan.sh", "/plans"],
        "resources": resources,
        "securityContext": _confined(),
        "volumeMounts": [
            {"name": "bundle", "mountPath": "/bundle", "readOnly": True},
            {"name": "plans", "mountPath": "/plans"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  inside the container
        ],
    }
    found = _deployment(name, server, [{"name": "plans", "emptyDir": {}}])
    found["spec"]["template"]["spec"]["initContainers"] = [build]
    return found


def _on_gpu(record: BundleRecord) -> bool:
    return (record.runners[0].device or "cpu") != "cpu"


def _resources(record: BundleRecord, memory: str) -> dict[str, Any]:
    threads = record.runners[0].runner.options.threads or 1
    found: dict[str, Any] = {"requests": {"cpu": str(threads), "memory": memory}, "limits": {"memory": memory}}
    if _on_gpu(record):
        found["requests"][GPU] = found["limits"][GPU] = "1"
    return found


def _server(container: ContainerRecord, repository: str, resources: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "triton",
        "image": container.image,
        "args": [
            "tritonserver",
            f"--model-repository={repository}",
            # What was checked is what is loaded: Triton completes nothing by itself.
            "--disable-auto-complete-config",
        ],
        "ports": [{"name": name, "containerPort": port} for name, port in PORTS.items()],
        "startupProbe": _probe("ready", period=5, failures=60),
        "readinessProbe": _probe("ready", period=5, failures=3),
        "livenessProbe": _probe("live", period=10, failures=3),
        "resources": resources,
        "securityContext": _confined(),
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  inside the container
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  likewise
        ],
    }


def _probe(what: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": f"/v2/health/{what}", "port": "http"},
        "periodSeconds": period,
        "failureThreshold": failures,
    }


def _confined() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _deployment(name: str, server: dict[str, Any], volumes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": _labels(name)},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": _labels(name)},
            "template": {
                "metadata": {"labels": _labels(name)},
                "spec": {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 60,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 1000,  # the image's triton-server
                        "fsGroup": 1000,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [server],
                    "volumes": [
                        {"name": "bundle", "persistentVolumeClaim": {"claimName": _claim(name), "readOnly": True}},
                        {"name": "tmp", "emptyDir": {}},
                        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
                        *volumes,
                    ],
                },
            },
        },
    }


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "triton"}


def _service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": _labels(name)},
        "spec": {
            "type": "ClusterIP",
            "selector": _labels(name),
            "ports": [{"name": port, "port": number, "targetPort": port} for port, number in PORTS.items()],
        },
    }


def _kserve(record: BundleRecord, name: str, options: Deploy, memory: str) -> dict[str, Any]:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "labels": _labels(name)},
        "spec": {
            "predictor": {
                "minReplicas": 1,
                "maxReplicas": 3,
                "automountServiceAccountToken": False,
                "model": {
                    "modelFormat": {"name": "triton"},
                    "protocolVersion": "v2",
                    "runtimeVersion": f"{options.triton_release}-py3",
                    "storageUri": f"pvc://{_claim(name)}/triton/onnxruntime",
                    "resources": _resources(record, memory),
                    "securityContext": _confined() | {"runAsNonRoot": True, "runAsUser": 1000},
                },
            }
        },
    }
