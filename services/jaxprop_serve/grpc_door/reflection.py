"""gRPC reflection: what the services and their messages are, for clients that have no `.proto` files (grpcurl).

The library answers, out of our own pool of messages. It speaks `grpc.reflection.v1alpha`; `v1` has the same messages
under another name, so one servicer stands behind both.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection, reflection_pb2

from jaxprop_serve.errors import ServeError
from jaxprop_serve.grpc_door.messages import POOL
from jaxprop_serve.grpc_door.tensors import Message

MESSAGES = reflection_pb2
ALPHA = reflection.SERVICE_NAME
STABLE = ALPHA.replace("v1alpha", "v1")


def _described() -> list[FileDescriptorProto]:
    """Return the descriptions of reflection's own two services."""
    alpha = FileDescriptorProto()
    MESSAGES.DESCRIPTOR.CopyToProto(alpha)
    text = text_format.MessageToString(alpha)
    return [alpha, text_format.Parse(text.replace("v1alpha", "v1"), FileDescriptorProto())]


for _file in _described():
    POOL.Add(_file)


class _Pool:
    """Our pool for the library, which also knows the methods of a service by name; protobuf's own does not."""

    def __getattr__(self, name: str) -> Any:
        return getattr(POOL, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        """Return the file that describes a message, an enum, a service or a method. Raises KeyError."""
        try:
            return POOL.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return POOL.FindServiceByName(service).methods_by_name[method].containing_service.file


class Reflection:
    """Answers a call of either service. One on which nothing is asked for `idle_s` seconds ends."""

    def __init__(self, services: Iterable[str], idle_s: float):
        self._servicer = reflection.aio.ReflectionServicer([*services, ALPHA, STABLE], _Pool())
        self._idle_s = idle_s

    async def answer(self, first: Message, context: Message) -> None:
        """Answer the `first` request of a call, and those that follow it."""
        answers: Any = self._servicer.ServerReflectionInfo(self._requests(first, context), context)
        async for answer in answers:
            await context.write(answer)

    async def _requests(self, first: Message, context: Message) -> AsyncIterator[Message]:
        yield first
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    data = await context.read()
            except TimeoutError:
                return
            if not isinstance(data, bytes):  # the end
                return
            try:
                yield type(first).FromString(data)
            except DecodeError:
                raise ServeError(400, f"what came is not a {first.DESCRIPTOR.full_name}") from None
