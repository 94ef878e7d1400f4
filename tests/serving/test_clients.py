"""Unchanged clients of Triton get what the session says, by each protocol, and what there is to know of a model."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from servers import NAME, Server
from tritonclient.utils import InferenceServerException

from pipeline.tensors import Array

HTTP, GRPC = tritonclient.http, tritonclient.grpc


def _http(server: Server) -> Any:
    return HTTP.InferenceServerClient(server.http_url)


def _grpc(server: Server) -> Any:
    return GRPC.InferenceServerClient(server.grpc_url)


def _asynchronous(client: Any) -> Any:
    """Return a client of asyncio whose `infer` is called like the others'."""

    class Client:
        def __init__(self, url: str) -> None:
            self._url = url

        def infer(self, *arguments: Any, **options: Any) -> Any:
            async def run() -> Any:
                async with client(self._url) as found:
                    return await found.infer(*arguments, **options)

            return asyncio.run(run())

        def close(self) -> None:
            pass

    return Client


def _http_aio(server: Server) -> Any:
    return _asynchronous(tritonclient.http.aio.InferenceServerClient)(server.http_url)


def _grpc_aio(server: Server) -> Any:
    return _asynchronous(tritonclient.grpc.aio.InferenceServerClient)(server.grpc_url)


def _input(module: Any, images: Array, **how: bool) -> list[Any]:
    one = module.InferInput("image", list(images.shape), "UINT8")
    one.set_data_from_numpy(images, **how)
    return [one]


Client = Callable[[Server], Any]


@pytest.mark.parametrize("made", [_http, _http_aio, _grpc, _grpc_aio])
@pytest.mark.parametrize("request_id", ["", "mine-1"])
@pytest.mark.parametrize("version", ["", "1"])
@pytest.mark.parametrize("named", [False, True], ids=["all outputs", "named outputs"])
def test_every_client_gets_the_sessions_answer(
    server: Server, images: Array, expected: Array, made: Client, request_id: str, version: str, named: bool
) -> None:
    module = HTTP if made in (_http, _http_aio) else GRPC
    outputs = [module.InferRequestedOutput("probabilities")] if named else None
    client = made(server)
    found = client.infer(NAME, _input(module, images), model_version=version, request_id=request_id, outputs=outputs)
    np.testing.assert_array_equal(found.as_numpy("probabilities"), expected)
    said = found.get_response()
    said = said if isinstance(said, dict) else {"id": said.id, "model_version": said.model_version}
    assert (said.get("id", ""), said["model_version"]) == (request_id, "1")
    client.close()


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_tensors_travel_as_bytes_or_json(
    server: Server, images: Array, expected: Array, sent: bool, asked: bool
) -> None:
    outputs = [HTTP.InferRequestedOutput("probabilities", binary_data=asked)]
    found = _http(server).infer(NAME, _input(HTTP, images, binary_data=sent), outputs=outputs)
    np.testing.assert_array_equal(found.as_numpy("probabilities"), expected)
    assert ("data" in found.get_output("probabilities")) is not asked


@pytest.mark.parametrize("form", ["gzip", "deflate"])
def test_bodies_travel_compressed(server: Server, images: Array, expected: Array, form: str) -> None:
    found = _http(server).infer(
        NAME, _input(HTTP, images), request_compression_algorithm=form, response_compression_algorithm=form
    )
    np.testing.assert_array_equal(found.as_numpy("probabilities"), expected)
    _, headers, _ = server.ask("POST", f"/v2/models/{NAME}/infer", *_json(images, form))
    assert headers["content-encoding"] == form


def _json(images: Array, form: str) -> tuple[bytes, dict[str, str]]:
    from servers import binary

    head, body = binary(images)
    return body, {"Inference-Header-Content-Length": str(head), "Accept-Encoding": form}


@pytest.mark.parametrize(("made", "module"), [(_http, HTTP), (_grpc, GRPC)])
def test_the_most_probable_classes_are_named(
    server: Server, images: Array, expected: Array, made: Client, module: Any
) -> None:
    outputs = [module.InferRequestedOutput("probabilities", class_count=2)]
    found = made(server).infer(NAME, _input(module, images), outputs=outputs).as_numpy("probabilities")
    assert found.shape == (5, 2)
    for named, row in zip(found, expected, strict=True):
        value, place, label = named[0].decode().split(":")
        assert int(place) == row.argmax()
        assert label == place, "the digits' names are their numbers"
        assert float(value) == pytest.approx(row.max(), abs=1e-6)


def test_requests_in_a_stream_are_answered_each_for_itself(server: Server, images: Array, expected: Array) -> None:
    answers: list[tuple[Any, Any]] = []
    client = _grpc(server)
    client.start_stream(lambda result, error: answers.append((result, error)))
    for number, name in enumerate((NAME, "nobody", NAME)):
        client.async_stream_infer(name, _input(GRPC, images), request_id=str(number))
    client.stop_stream()
    assert [error is None for _, error in answers] == [True, False, True]
    assert "unknown model 'nobody'" in answers[1][1].message()
    for number in (0, 2):
        assert answers[number][0].get_response().id == str(number)
        np.testing.assert_array_equal(answers[number][0].as_numpy("probabilities"), expected)


def test_grpc_takes_numbers_that_are_not_bytes(server: Server, images: Array, expected: Array) -> None:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    message = service_pb2.ModelInferRequest(model_name=NAME)
    one = message.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    one.contents.uint_contents.extend(images.ravel().tolist())
    with grpc.insecure_channel(server.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        found = stub.ModelInfer(message)
        np.testing.assert_array_equal(np.frombuffer(found.raw_output_contents[0], np.float32), expected.ravel())
        one.contents.uint_contents[0] = 256
        with pytest.raises(grpc.RpcError, match="no room") as refused:
            stub.ModelInfer(message)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as absent:
            stub.TraceSetting(service_pb2.TraceSettingRequest())
        assert absent.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_both_protocols_tell_the_same_of_the_server_and_the_model(server: Server) -> None:
    by_http, by_grpc = _http(server), _grpc(server)
    assert by_http.is_server_live()
    assert by_http.is_server_ready()
    assert by_http.is_model_ready(NAME, "1")
    assert by_grpc.is_server_live()
    assert by_grpc.is_server_ready()
    assert by_grpc.is_model_ready(NAME)
    assert not by_grpc.is_model_ready(NAME, "9")
    assert by_http.get_server_metadata() == by_grpc.get_server_metadata(as_json=True)
    metadata = by_http.get_model_metadata(NAME)
    assert metadata["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28, 1]}]
    assert metadata["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]
    assert [one.name for one in by_grpc.get_model_metadata(NAME).inputs] == ["image"]
    config = by_http.get_model_config(NAME)
    assert config["max_batch_size"] == by_grpc.get_model_config(NAME).config.max_batch_size == 16
    assert config["input"][0]["dims"] == [28, 28, 1]
    assert config["parameters"]["verdict"]["string_value"] == "pass"
    index = {one["name"]: one["state"] for one in by_http.get_model_repository_index()}
    assert index[NAME] == "READY"
    assert f"{NAME}.original" in index
    assert {one.name for one in by_grpc.get_model_repository_index().models} == set(index)
    assert by_http.get_system_shared_memory_status() == []


def test_statistics_count_every_sample(server: Server, images: Array) -> None:
    client = _http(server)

    def counts() -> tuple[int, int]:
        (one,) = client.get_inference_statistics(NAME)["model_stats"]
        return one["inference_count"], one["inference_stats"]["success"]["count"]

    before = counts()
    client.infer(NAME, _input(HTTP, images))
    assert counts() == (before[0] + 5, before[1] + 1)
    assert _grpc(server).get_inference_statistics(NAME).model_stats[0].inference_count == before[0] + 5


def test_another_runner_is_loaded_asked_and_unloaded(server: Server, images: Array, expected: Array) -> None:
    client, name = _http(server), f"{NAME}.openvino-cpu-fp32"
    with pytest.raises(InferenceServerException, match="is not loaded"):
        client.infer(name, _input(HTTP, images))
    client.load_model(name)
    assert client.is_model_ready(name)
    found = client.infer(name, _input(HTTP, images)).as_numpy("probabilities")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    _grpc(server).unload_model(name)
    assert not client.is_model_ready(name)
    with pytest.raises(InferenceServerException, match="unknown model"):
        client.load_model("nobody")
