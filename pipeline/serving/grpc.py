"""The Open Inference Protocol over gRPC, with its published messages and stubs."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from pipeline.serving import describing, messages, requests
from pipeline.serving.model import Model
from pipeline.serving.refusals import Refused, Why, invalid
from pipeline.serving.security import Guard
from pipeline.serving.service import ENDING, Service
from pipeline.serving.tracing import Tracer

log = logging.getLogger(__name__)


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """What the protocol asks of a server."""

    def __init__(self, service: Service, tracer: Tracer | None) -> None:
        self._service, self._tracer = service, tracer

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802  the protocol's names
        """Tell that the server lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tell whether requests to infer are answered."""
        return pb.ServerReadyResponse(ready=self._service.ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tell whether a model answers."""
        try:
            self._service.repository.model(request.name, request.version)
        except Refused:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._service.ready)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Describe the server."""
        return describing.server()

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Describe a model."""
        return describing.metadata(await self._model(request, context))

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Return a model's configuration."""
        return pb.ModelConfigResponse(config=describing.config(await self._model(request, context)))

    async def ModelStatistics(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tell what a model has done, or where none is named all of them."""
        if not request.name:
            return describing.statistics(self._service.repository.models())
        return describing.statistics([await self._model(request, context)])

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        """List the models, loaded or not."""
        entries = self._service.repository.index()
        return describing.index(one for one in entries if one.state == "READY" or not request.ready)

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Load a model; the one that is served first from the bundle's folder anew."""
        try:
            if request.parameters:
                raise invalid("a model is loaded as the bundle has it: no parameters")
            self._service.check_accepting()
            await asyncio.shield(self._service.repository.load(request.model_name))
        except Refused as refused:
            await _abort(context, refused)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Unload a model."""
        try:
            self._service.check_accepting()
            await self._service.repository.unload(request.model_name)
        except Refused as refused:
            await _abort(context, refused)
        return pb.RepositoryModelUnloadResponse()

    async def SystemSharedMemoryStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """List the regions of shared memory: none."""
        return pb.SystemSharedMemoryStatusResponse()

    async def CudaSharedMemoryStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """List the regions of CUDA shared memory: none."""
        return pb.CudaSharedMemoryStatusResponse()

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer a request to infer."""
        try:
            return await self._infer(request, context)
        except Refused as refused:
            await _abort(context, refused)

    async def ModelStreamInfer(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Answer requests in their order, each for itself: one that is refused does not end the stream."""
        async for request in request_iterator:
            try:
                answer = await self._infer(request, context)
                yield pb.ModelStreamInferResponse(infer_response=answer)
            except Refused as refused:
                found = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
                yield pb.ModelStreamInferResponse(error_message=refused.words, infer_response=found)

    async def _unsupported(self, request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not supported by this server")

    SystemSharedMemoryRegister = SystemSharedMemoryUnregister = _unsupported
    CudaSharedMemoryRegister = CudaSharedMemoryUnregister = _unsupported
    TraceSetting = LogSettings = _unsupported

    async def _model(self, request: Any, context: Any) -> Model:
        try:
            return self._service.repository.model(request.name, request.version)
        except Refused as refused:
            await _abort(context, refused)
            raise

    async def _infer(self, request: Any, context: Any) -> Any:
        began, name, code = time.perf_counter(), "", "CANCELLED"
        span = self._tracer.start("grpc", _metadata(context, "traceparent")) if self._tracer else None
        task = asyncio.current_task()
        assert task is not None
        self._service.in_flight.add(task)
        try:
            self._service.check_accepting()
            model = self._service.repository.model(request.model_name, request.model_version)
            name = model.name
            feed, rows = messages.feed(model, request)
            wanted = messages.wanted(model, request)
            limit = requests.timeout_s(messages.parameter(request.parameters, "timeout"))
            if (left := context.time_remaining()) is not None:
                limit = left if limit is None else min(left, limit)
            answer = await self._service.infer(model, feed, rows, limit)
            code = "OK"
            context.set_trailing_metadata((("server-timing", messages.timing(answer)),))
            return messages.response(model, request.id, wanted, answer)
        except Refused as refused:
            code = refused.why.grpc
            raise
        except asyncio.CancelledError:
            if self._service.accepting:
                raise  # the client has left
            raise ENDING from None
        except Exception as error:
            log.exception("request failed")
            code = Why.BROKEN.grpc
            raise Refused(Why.BROKEN, f"the server failed: {type(error).__name__}") from error
        finally:
            self._service.in_flight.discard(task)
            self._service.metrics.answered(name, "grpc", code, time.perf_counter() - began)
            if span is not None:
                span.end(model=name, code=code)


class Authorized(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets only calls with the token through."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Return the call's handler, or one that refuses it."""
        sent = next((value for key, value in details.invocation_metadata if key == "authorization"), "")
        path = {"ServerLive": "/v2/health/live", "ServerReady": "/v2/health/ready"}
        try:
            method = details.method.rpartition("/")[2]
            self._guard.check_token(path.get(method, details.method), str(sent).encode())
        except Refused as refused:
            words = refused.words

            async def refuse(request: Any, context: Any) -> None:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, words)

            async def refuse_stream(requests: Any, context: Any) -> AsyncIterator[Any]:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, words)
                yield

            if method == "ModelStreamInfer":
                return grpc.stream_stream_rpc_method_handler(refuse_stream)
            return grpc.unary_unary_rpc_method_handler(refuse)
        return await continuation(details)


async def _abort(context: Any, refused: Refused) -> None:
    await context.abort(getattr(grpc.StatusCode, refused.why.grpc), refused.words)


def _metadata(context: Any, wanted: str) -> bytes:
    return next((str(value).encode() for key, value in context.invocation_metadata() or () if key == wanted), b"")
