"""Asks a gRPC server for foos, knowing no more of it than its address: the rest it tells by reflection.

    client.py ADDRESS get ID [AT_LEAST]
    client.py ADDRESS list [STATUS]
"""
import json
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def main(address, what, *arguments):
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "foos.v1.Foos" in database.get_services()
        pool = DescriptorPool(database)
        methods = pool.FindServiceByName("foos.v1.Foos").methods_by_name

        def call(method, kind, **fields):
            request = GetMessageClass(methods[method].input_type)(**fields)
            answer = GetMessageClass(methods[method].output_type)
            stub = getattr(channel, kind)(
                f"/foos.v1.Foos/{method}", type(request).SerializeToString, answer.FromString, _registered_method=True
            )
            return stub(request, timeout=20)

        def shown(foo):
            print(json.dumps(MessageToDict(foo, preserving_proto_field_name=True), sort_keys=True))

        try:
            if what == "get":
                at_least = int(arguments[1]) if len(arguments) > 1 else 0
                shown(call("GetFoo", "unary_unary", id=arguments[0], at_least=at_least))
            else:
                status = arguments[0] if arguments else "STATUS_UNSPECIFIED"
                for foo in call("GetFoos", "unary_stream", status=status):
                    shown(foo)
        except grpc.RpcError as error:
            print(json.dumps({"code": error.code().name, "details": error.details()}))


main(*sys.argv[1:])
