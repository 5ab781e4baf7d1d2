"""Requests that no client sends, through the stubs of kurrentdbclient."""

import random
import socket
import threading
from uuid import uuid4

import grpc
from clients import ANY, address, connect, event, events, name, raises, run
from google.protobuf.empty_pb2 import Empty
from kurrentdbclient.exceptions import NotFoundError
from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

client = connect()
channel = grpc.insecure_channel(address())
SERVICE = "/event_store.client.streams.Streams/"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def goes_on():
    stream = name()
    client.append_to_stream(stream, current_version=ANY, events=events(1))
    assert len(client.get_stream(stream)) == 1


def read(**options):
    request = streams_pb2.ReadReq(options=streams_pb2.ReadReq.Options(**options))
    return list(client.streams._stub.Read(request, timeout=20))


def refused(code, call, *arguments, **named):
    error = raises(grpc.RpcError, call, *arguments, **named)
    assert error.code() == code, error


def check_random_messages():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    plain = dict(request_serializer=None, response_deserializer=None)
    for _ in range(60):
        message = chance.randbytes(chance.randrange(60))
        for call in ["Read", "Delete", "Tombstone"]:
            kind = channel.unary_stream if call == "Read" else channel.unary_unary
            try:
                answer = kind(SERVICE + call, **plain)(message, timeout=20)
                list(answer)
            except grpc.RpcError as error:
                assert error.code() != grpc.StatusCode.UNKNOWN, (seed, call, error)
        for call in ["Append", "BatchAppend"]:
            kind = channel.stream_stream if call == "BatchAppend" else channel.stream_unary
            try:
                list(kind(SERVICE + call, **plain)(iter([message, message]), timeout=20))
            except grpc.RpcError as error:
                assert error.code() != grpc.StatusCode.UNKNOWN, (seed, call, error)
    goes_on()


def check_a_batch_without_a_correlation_id_and_one_that_is_closed_half_way():
    answers = list(client.streams._stub.BatchAppend(iter([streams_pb2.BatchAppendReq()]), timeout=20))
    assert [one.error.message for one in answers] == ["BadRequest"], answers
    assert list(client.streams._stub.BatchAppend(iter([]), timeout=20)) == []


def check_requests_without_their_parts():
    empty = shared_pb2.Empty()
    text = streams_pb2.ReadReq.Options.UUIDOption(string=empty)
    every = streams_pb2.ReadReq.Options.AllOptions(start=empty)
    refused(INVALID, read)
    refused(INVALID, read, all=every, count=1, no_filter=empty)
    refused(INVALID, read, all=every, count=1, uuid_option=text)
    refused(INVALID, read, all=every, no_filter=empty, uuid_option=text)
    refused(INVALID, read, count=1, no_filter=empty, uuid_option=text)
    backwards = dict(read_direction=1, subscription=streams_pb2.ReadReq.Options.SubscriptionOptions())
    refused(INVALID, read, all=every, no_filter=empty, uuid_option=text, **backwards)
    refused(INVALID, client.streams._stub.Append, iter([]))
    refused(INVALID, client.streams._stub.Delete, streams_pb2.DeleteReq())
    assert read(all=every, count=0, no_filter=empty, uuid_option=text) == []
    for pattern in ["^" + "(?!a)" * 9, "(", "a" * 20_000, "(a{1000}){1000}", "(a)\\1"]:
        expression = streams_pb2.ReadReq.Options.FilterOptions.Expression(regex=pattern)
        filter_ = streams_pb2.ReadReq.Options.FilterOptions(event_type=expression, max=32)
        refused(INVALID, read, all=every, count=1, filter=filter_, uuid_option=text)
    goes_on()


def proposed():
    """The smallest event that there is."""
    id_ = shared_pb2.UUID(string=str(uuid4()))
    metadata = {"type": "T", "content-type": "application/json"}
    return dict(id=id_, metadata=metadata)


def check_more_events_than_an_append_may_have_are_refused_as_they_come():
    empty, stream = shared_pb2.Empty(), shared_pb2.StreamIdentifier(stream_name=name().encode())
    answered = threading.Event()

    def requests():
        options = streams_pb2.AppendReq.Options(stream_identifier=stream, any=empty)
        yield streams_pb2.AppendReq(options=options)
        message = streams_pb2.AppendReq.ProposedMessage(**proposed())
        for _ in range(10_001):
            yield streams_pb2.AppendReq(proposed_message=message)
        answered.wait()

    call = client.streams._stub.Append.future(requests(), timeout=60)
    assert call.exception().code() == INVALID, call.exception()
    answered.set()


def check_appends_that_are_never_finished_keep_little():
    answered = threading.Event()
    message = streams_pb2.BatchAppendReq.ProposedMessage(**proposed())

    def part(events):
        stream = shared_pb2.StreamIdentifier(stream_name=name().encode())
        options = streams_pb2.BatchAppendReq.Options(stream_identifier=stream, any=Empty())
        id_ = shared_pb2.UUID(string=str(uuid4()))
        messages = [message] * events
        return streams_pb2.BatchAppendReq(correlation_id=id_, options=options, proposed_messages=messages)

    for sizes in [[10_001], [9_900] * 11]:
        parts = [part(size) for size in sizes]

        def requests():
            yield from parts
            answered.wait()

        answers = client.streams._stub.BatchAppend(requests(), timeout=60)
        refused = next(answers)
        assert refused.error.message == "BadRequest", refused
        assert refused.correlation_id == parts[-1].correlation_id
        answers.cancel()
    answered.set()
    goes_on()


def check_links_are_followed_as_they_are_taken():
    stream, links = name(), name("links")
    client.append_to_stream(stream, current_version=ANY, events=[event(data=b"x" * 1_000_000)])
    link = lambda: event("$>", f"0@{stream}".encode())
    client.append_to_stream(links, current_version=ANY, events=[link() for _ in range(40)])
    empty = shared_pb2.Empty()
    wanted = streams_pb2.ReadReq.Options.StreamOptions(
        stream_identifier=shared_pb2.StreamIdentifier(stream_name=links.encode()), start=empty
    )
    text = streams_pb2.ReadReq.Options.UUIDOption(string=empty)
    options = dict(stream=wanted, resolve_links=True, count=40, no_filter=empty, uuid_option=text)
    request = streams_pb2.ReadReq(options=streams_pb2.ReadReq.Options(**options))
    reading = client.streams._stub.Read(request, timeout=60)
    found = [next(reading)]
    client.delete_stream(stream, current_version=ANY)
    raises(NotFoundError, client.get_stream, stream)
    found.extend(reading)
    leads = [one.event.HasField("event") for one in found if one.HasField("event")]
    # Those that nobody took before the deletion lead nowhere.
    assert len(leads) == 40 and leads[0] and not leads[-1], leads


def check_large_metadata_of_events_and_of_calls():
    error = raises(
        Exception,
        client.append_to_stream,
        name(),
        current_version=ANY,
        events=event(metadata=b"x" * 100_000),
    )
    assert "metadata" in str(error), error
    padding = (("padding", "x" * 100_000),)
    raises(grpc.RpcError, lambda: list(client.streams._stub.Read(streams_pb2.ReadReq(), metadata=padding)))
    goes_on()


def check_a_subscriber_that_stops_reading():
    stream = name()
    following = client.subscribe_to_stream(stream)
    for _ in range(40):
        client.append_to_stream(stream, current_version=ANY, events=[event(data=b"x" * 500_000)])
    # Others are served, and the subscriber finds everything when it reads again.
    goes_on()
    assert [next(following).stream_position for _ in range(40)] == list(range(40))
    following.stop()


def check_calls_that_are_cancelled():
    for _ in range(100):
        following = client.subscribe_to_all(from_end=True)
        following.stop()
    goes_on()


def check_bytes_that_are_no_call():
    host, port = address().split(":")
    for _ in range(10):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(random.randbytes(500))
    goes_on()


if __name__ == "__main__":
    run(globals())
