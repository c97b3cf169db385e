"""What the pages ask of `grpcurl`, where it is not installed: `-plaintext -d JSON HOST:PORT SERVICE/METHOD`.

Like it, this knows of a server's messages only what its reflection says.
"""

import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main():
    plaintext, d, data, address, name = sys.argv[1:]
    assert (plaintext, d) == ("-plaintext", "-d")
    service, method = name.split("/")
    with grpc.insecure_channel(address) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        found = pool.FindServiceByName(service).FindMethodByName(method)
        question = Parse(data, GetMessageClass(found.input_type)(), descriptor_pool=pool)
        answer = GetMessageClass(found.output_type)
        ask = channel.unary_unary(f"/{name}", type(question).SerializeToString, answer.FromString)
        print(MessageToJson(ask(question, timeout=10), descriptor_pool=pool))


if __name__ == "__main__":
    main()
