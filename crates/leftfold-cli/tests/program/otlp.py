"""A collector of OpenTelemetry, which listens to what a server sends, and a caller within a trace.

    otlp.py: prints its port; gets the port of a server by a line, calls it, and waits for the spans.
"""

import sys
import threading
from concurrent import futures

import grpc

TRACE, PARENT = bytes(range(1, 17)), bytes(range(21, 29))
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
found = threading.Event()


def export(request, context):
    # In a span the trace is field 1, the parent field 4, the name field 5.
    text = lambda number, value: bytes([number << 3 | 2, len(value)]) + value
    parts = [text(1, TRACE), text(4, PARENT), text(5, b"leftfold.call"), b"Store/Now", b"OK"]
    if all(part in request for part in parts):
        found.set()
    return b""


class Collector(grpc.GenericRpcHandler):
    def service(self, call):
        return grpc.unary_unary_rpc_method_handler(export) if call.method == EXPORT else None


collector = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Collector()])
print(collector.add_insecure_port("127.0.0.1:0"), flush=True)
collector.start()
server = grpc.insecure_channel(f"127.0.0.1:{sys.stdin.readline().strip()}")
call = server.unary_unary("/leftfold.v1.Store/Now")
call(b"", metadata=[("traceparent", f"00-{TRACE.hex()}-{PARENT.hex()}-01")])
assert found.wait(60), "no span of the call came"
print("found", flush=True)
sys.stdin.readline()
