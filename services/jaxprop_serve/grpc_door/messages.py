"""The gRPC messages, out of the `.proto` files beside this one, without generated code.

Generated modules register their names in protobuf's one default pool, and two of them for the same protocol in one
process (ours and tritonclient's, say) crash on import. So the files are read here, by a reader of as much of proto3 as
they use, into a pool of our own.

>>> HEALTH.HealthCheckRequest(service="x").service
'x'
>>> [method.name for method in HEALTH.services["grpc.health.v1.Health"].methods]
['Check', 'Watch']
"""

import re
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {name: getattr(Field, f"TYPE_{name.upper()}") for name in (
    "double", "float", "int64", "uint64", "int32", "bool", "string", "bytes", "uint32")}  # fmt: skip
_TOKEN = re.compile(r"//[^\n]*|\"[^\"]*\"|[\w.]+|[{}=;<>,]")


class Messages:
    """Holds the message classes of one file as attributes, and its services by their full names."""

    def __init__(self, file: str, pool: Any):
        described = read_proto((Path(__file__).parent / "protos" / file).read_text(), file)
        pool.Add(described)
        for message in described.message_type:
            found = pool.FindMessageTypeByName(f"{described.package}.{message.name}")
            setattr(self, message.name, message_factory.GetMessageClass(found))
        names = [f"{described.package}.{service.name}" for service in described.service]
        self.services = {name: pool.FindServiceByName(name) for name in names}

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no message {name!r}")


def read_proto(text: str, name: str) -> descriptor_pb2.FileDescriptorProto:
    """Return the description of a `.proto` file."""
    tokens = [token for token in _TOKEN.findall(text) if not token.startswith("//")]
    file = descriptor_pb2.FileDescriptorProto(name=f"jaxprop_serve/{name}", syntax="proto3")
    tokens.reverse()
    while tokens:
        word = tokens.pop()
        if word == "package":
            file.package = tokens.pop()
        elif word == "message":
            _message(file.message_type.add(), tokens)
        elif word == "enum":
            _enum(file.enum_type.add(), tokens)
        elif word == "service":
            _service(file.service.add(), tokens, f".{file.package}.")
    for message in file.message_type:
        _resolve(message, file, f".{file.package}", [])
    return file


def _service(service: descriptor_pb2.ServiceDescriptorProto, tokens: list[str], package: str) -> None:
    """Read `rpc Name([stream] Request) returns ([stream] Response);` of messages in the same package."""
    service.name = tokens.pop()
    tokens.pop()
    while tokens.pop() == "rpc":
        method = service.method.add(name=tokens.pop())
        method.client_streaming, method.input_type = _passed(tokens, package)
        tokens.pop()
        method.server_streaming, method.output_type = _passed(tokens, package)
        tokens.pop()


def _passed(tokens: list[str], package: str) -> tuple[bool, str]:
    word = tokens.pop()
    return (True, package + tokens.pop()) if word == "stream" else (False, package + word)


def _message(message: descriptor_pb2.DescriptorProto, tokens: list[str]) -> None:
    message.name = tokens.pop()
    tokens.pop()
    inside: int | None = None  # the index of the oneof whose fields follow
    while (word := tokens.pop()) != "}" or inside is not None:
        if word == "}":
            inside = None
        elif word == "message":
            _message(message.nested_type.add(), tokens)
        elif word == "enum":
            _enum(message.enum_type.add(), tokens)
        elif word == "oneof":
            message.oneof_decl.add(name=tokens.pop())
            tokens.pop()
            inside = len(message.oneof_decl) - 1
        else:
            _field(message, word, tokens, inside)


def _field(message: descriptor_pb2.DescriptorProto, word: str, tokens: list[str], inside: int | None) -> None:
    field = message.field.add(label=Field.LABEL_OPTIONAL)
    if word == "map":
        _, key, _, value, _ = (tokens.pop() for _ in range(5))
        field.name = tokens.pop()
        entry = message.nested_type.add(name=field.name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        for number, (part, kind) in enumerate((("key", key), ("value", value)), 1):
            _type(entry.field.add(name=part, number=number, label=Field.LABEL_OPTIONAL), kind)
        field.label, field.type_name = Field.LABEL_REPEATED, entry.name
    else:
        if word == "repeated":
            field.label, word = Field.LABEL_REPEATED, tokens.pop()
        _type(field, word)
        field.name = tokens.pop()
    tokens.pop()
    field.number = int(tokens.pop())
    tokens.pop()
    if inside is not None:
        field.oneof_index = inside


def _type(field: Field, word: str) -> None:
    if word in _SCALARS:
        field.type = _SCALARS[word]
    else:
        field.type_name = word


def _enum(enum: descriptor_pb2.EnumDescriptorProto, tokens: list[str]) -> None:
    enum.name = tokens.pop()
    tokens.pop()
    while (word := tokens.pop()) != "}":
        tokens.pop()
        enum.value.add(name=word, number=int(tokens.pop()))
        tokens.pop()


def _resolve(
    message: descriptor_pb2.DescriptorProto,
    file: descriptor_pb2.FileDescriptorProto,
    path: str,
    outer: list[descriptor_pb2.DescriptorProto],
) -> None:
    """Make full names of type names: they are looked up in this message, then in those around it, then in the file."""
    path, around = f"{path}.{message.name}", [*outer, message]
    for nested in message.nested_type:
        _resolve(nested, file, path, around)
    scopes: list[tuple[Any, str]] = [(file, f".{file.package}")]
    for one in around:
        scopes.append((one, f"{scopes[-1][1]}.{one.name}"))
    for field in message.field:
        for scope, prefix in reversed(scopes if field.type_name else []):
            messages = scope.message_type if scope is file else scope.nested_type
            if any(one.name == field.type_name for one in messages):
                field.type, field.type_name = Field.TYPE_MESSAGE, f"{prefix}.{field.type_name}"
                break
            if any(one.name == field.type_name for one in scope.enum_type):
                field.type, field.type_name = Field.TYPE_ENUM, f"{prefix}.{field.type_name}"
                break


def _pool() -> Any:
    return descriptor_pool.DescriptorPool()


POOL = _pool()
INFERENCE, HEALTH = Messages("inference.proto", POOL), Messages("health.proto", POOL)
