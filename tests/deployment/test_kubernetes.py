"""The manifests hold to Kubernetes's schemas, and to KServe's own classes; nothing here runs them."""

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from commands import ROOT

from pipeline.artifacts.bundle import BundleRecord
from pipeline.config.deploying import Deploy
from pipeline.deployment import bundle as bundles
from pipeline.deployment import kubernetes

NEWEST = kubernetes_validate.latest_version()


def _documents(bundle: Path, name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((bundle / "kubernetes" / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ["triton.yaml", "triton-tensorrt.yaml"])
def test_a_deployment_and_its_service_are_as_kubernetes_wants_them(bundle: Path, name: str) -> None:
    deployment, service = _documents(bundle, name)
    for document in (deployment, service):
        kubernetes_validate.validate(document, NEWEST, strict=True)
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert [port["port"] for port in service["spec"]["ports"]] == [8000, 8001, 8002]
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    assert server["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    mounted = {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in server["volumeMounts"]} <= mounted


def test_a_changed_manifest_is_not_as_kubernetes_wants_it(bundle: Path) -> None:
    deployment, _ = _documents(bundle, "triton.yaml")
    deployment["spec"]["replica"] = deployment["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)


@pytest.mark.parametrize("name", ["triton.yaml", "triton-tensorrt.yaml", "kserve.yaml"])
def test_every_manifest_says_that_it_was_not_run(bundle: Path, name: str) -> None:
    assert "NOT RUN" in (bundle / "kubernetes" / name).read_text(encoding="utf-8")


def test_containers_are_confined(bundle: Path) -> None:
    for name in ("triton.yaml", "triton-tensorrt.yaml"):
        pod = _documents(bundle, name)[0]["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_plan_is_built_on_the_node_that_serves_it_and_on_its_gpu(bundle: Path) -> None:
    pod = _documents(bundle, "triton-tensorrt.yaml")[0]["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["command"][1:] == ["/bundle/triton/build_plan.sh", "/plans"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in (bundle / "kubernetes/triton.yaml").read_text(encoding="utf-8")


def test_a_runner_of_a_gpu_asks_for_one_and_computes_as_it_was_judged(bundle: Path, tmp_path: Path) -> None:
    record = BundleRecord.read(bundle / bundles.RECORD)
    first = record.runners[0].model_copy(update={"device": "cuda:0"})
    (tmp_path / "model").write_bytes(b"?")
    kubernetes.write(record.model_copy(update={"runners": (first,)}), Deploy(), tmp_path)
    (server,) = _documents(tmp_path, "triton.yaml")[0]["spec"]["template"]["spec"]["containers"]
    assert server["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"name": "NVIDIA_TF32_OVERRIDE", "value": "0"} in server["env"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("article_cnn", "article-cnn"), ("A__B", "a-b"), ("_", "model"), ("x" * 80, "x" * 50), ("Größe 3", "gr-e-3")],
)
def test_names_are_ones_that_kubernetes_takes(name: str, expected: str) -> None:
    assert kubernetes.dns_name(name) == expected


@pytest.mark.triton
def test_the_inference_service_is_as_kserves_own_classes_want_it(bundle: Path) -> None:
    from benchmarks.triton import venv

    script = ROOT / "benchmarks/triton/kserve_schema.py"
    text = (bundle / "kubernetes/kserve.yaml").read_text(encoding="utf-8")

    def ask(manifest: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([venv.environment().python, script], input=manifest, capture_output=True, text=True)

    whole = ask(text)
    assert whole.returncode == 0, whole.stderr
    misspelt = ask(text.replace("maxReplicas", "maxReplica"))
    assert misspelt.returncode == 1
    assert "has no maxReplica" in misspelt.stderr
