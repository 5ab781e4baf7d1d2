"""Appends, reads, deletions and metadata of streams, by kurrentdbclient."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import grpc
from clients import ANY, EXISTS, NONE, address, connect, event, events, name, raises, run
from kurrentdbclient import NewEvent, NewEvents, NewRecord, StreamStateCheck
from kurrentdbclient.exceptions import (
    AccessDeniedError,
    BadRequestError,
    ConsistencyChecksFailedError,
    MaximumAppendSizeExceededError,
    NotFoundError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)
from kurrentdbclient.protos.v1 import projections_pb2, shared_pb2, streams_pb2

client = connect()


def append(stream, new, expected):
    return client.append_to_stream(stream, current_version=expected, events=new)


def numbers(stream, **how):
    return [one.stream_position for one in client.get_stream(stream, **how)]


def check_events_come_back_as_they_were_sent():
    stream = name()
    sent = [
        NewEvent(type="OrderPlaced", data=b'{"a": 1}', metadata=b'{"by": "ada"}', id=uuid4()),
        NewEvent(type="$odd type", data=b"\x00\xff", content_type="application/octet-stream"),
        NewEvent(type="~$x", data=b"", metadata=b""),
    ]
    position = append(stream, sent, NONE)
    found = client.get_stream(stream)
    for number, (new, old) in enumerate(zip(sent, found, strict=True)):
        assert (new.id, new.type, new.data) == (old.id, old.type, old.data), old
        assert (new.metadata, new.content_type) == (old.metadata, old.content_type), old
        assert (old.stream_name, old.stream_position) == (stream, number), old
        assert old.commit_position == old.prepare_position == position - 2 + number, old
        assert old.recorded_at is not None
    assert found[0].recorded_at.timestamp() > 1_600_000_000


def check_streams_may_have_any_name():
    for odd in ["with space " + name(), "$" + name(), "~$" + name(), "ünï🎈" + name(), "a$b" + name()]:
        append(odd, events(2), NONE)
        found = client.get_stream(odd)
        assert [one.stream_name for one in found] == [odd, odd], found
    raises(BadRequestError, append, "x" * 600, events(1), ANY)
    raises(BadRequestError, append, "", events(1), ANY)


def check_reads_go_both_ways_from_anywhere():
    stream = name()
    append(stream, events(10), NONE)
    assert numbers(stream) == list(range(10))
    assert numbers(stream, backwards=True) == list(reversed(range(10)))
    assert numbers(stream, stream_position=7) == [7, 8, 9]
    assert numbers(stream, stream_position=2, backwards=True) == [2, 1, 0]
    assert numbers(stream, stream_position=3, limit=2) == [3, 4]
    assert numbers(stream, backwards=True, limit=3) == [9, 8, 7]
    assert numbers(stream, stream_position=10) == []
    assert numbers(stream, stream_position=99, backwards=True, limit=1) == [9]
    assert client.get_current_version(stream) == 9
    raises(NotFoundError, client.get_stream, name())
    assert client.get_current_version(name()) is NONE


def check_all_events_are_read_both_ways():
    stream = name()
    last = append(stream, events(5), NONE)
    first = last - 4
    ours = list(client.read_all(commit_position=first, filter_exclude=(), limit=5))
    assert [one.stream_position for one in ours] == [0, 1, 2, 3, 4]
    assert [one.commit_position for one in ours] == list(range(first, last + 1))
    back = list(client.read_all(commit_position=last + 1, backwards=True, filter_exclude=(), limit=5))
    assert [one.id for one in back] == [one.id for one in reversed(ours)]
    # Backwards the event at the position itself is left out.
    back = list(client.read_all(commit_position=last, backwards=True, filter_exclude=(), limit=1))
    assert back[0].id == ours[3].id
    assert client.get_commit_position(filter_exclude=()) == last
    assert list(client.read_all(commit_position=last + 1, filter_exclude=())) == []
    kinds = {one.type for one in client.read_all(filter_include=["Order.*"])}
    assert kinds == {"OrderPlaced"}, kinds
    by_prefix = client.read_all(
        filter_include=[stream], filter_by_stream_name=True, filter_by_prefix=True
    )
    assert [one.id for one in by_prefix] == [one.id for one in ours]


def check_expected_versions():
    stream = name()
    wrong = raises(WrongCurrentVersionError, append, stream, events(1), 0)
    assert wrong.actual_version == NONE, wrong
    wrong = raises(WrongCurrentVersionError, append, stream, events(1), EXISTS)
    append(stream, events(2), NONE)
    wrong = raises(WrongCurrentVersionError, append, stream, events(1), NONE)
    assert wrong.actual_version == 1, wrong
    raises(WrongCurrentVersionError, append, stream, events(1), 0)
    raises(WrongCurrentVersionError, append, stream, events(1), 2)
    append(stream, events(1), 1)
    append(stream, events(1), EXISTS)
    append(stream, events(1), ANY)
    assert numbers(stream) == [0, 1, 2, 3, 4]


def check_the_same_events_again():
    """The table of their own tests: events by number, each with the version it is expected at."""
    table = [
        # What was appended before, one by one; then the same number again at a version.
        ("0em1 1e0 2e1 3e2 4e3 5e4", [0], NONE, "same"),
        ("0em1 1e0 2e1 3e2 4e3 5e4", [0], ANY, "same"),
        ("0em1 1e0 2e1 3e2 4e3 5e4", [0], 5, "new"),
        ("0em1 1e0 2e1 3e2 4e3 5e4", [0], 6, "wrong"),
        ("0em1 1e0 2e1 3e2 4e3 5e4", [0], 4, "wrong"),
        ("0em1", [0], 0, "new"),
        ("0em1", [0], ANY, "same"),
        ("0em1", [0], EXISTS, "same"),
        ("0em1", [0], NONE, "same"),
        ("0em1 1e0 2e1", [1], ANY, "same"),
        ("0em1 1e0 2e1", [1], 0, "same"),
        # What was appended at once.
        ("0,1em1", [0], NONE, "same"),
        ("0,1em1", [0], ANY, "same"),
        ("0,1em1", [1], 0, "same"),
        ("0,1em1", [1], ANY, "same"),
        ("0,1em1", [0, 1], ANY, "same"),
        # Longer than what is there, with a start that is known.
        ("0,1em1", [0, 1, 2], NONE, "wrong"),
        ("0,1em1", [0, 1, 2], ANY, "wrong"),
        ("0,1em1", [1, 2], 0, "wrong"),
    ]
    for before, again, expected, outcome in table:
        stream, made = name(), {}
        for step in before.split():
            which, at = step.split("e")
            version = NONE if at == "m1" else int(at)
            batch = [made.setdefault(number, event()) for number in which.split(",")]
            append(stream, batch, version)
        count = len(numbers(stream))
        batch = [made.setdefault(str(number), event()) for number in again]
        row = (before, again, expected)
        if outcome == "wrong":
            raises(WrongCurrentVersionError, append, stream, batch, expected)
            assert len(numbers(stream)) == count, row
            continue
        position = append(stream, batch, expected)
        after = client.get_stream(stream)
        assert len(after) == (count + len(batch) if outcome == "new" else count), row
        ids = [one.id for one in after if one.commit_position == position]
        assert ids == [batch[-1].id], row
    # The same id in another stream is another event.
    same = event()
    append(name(), [same], ANY)
    append(name(), [same], ANY)


def check_the_same_events_at_the_same_time():
    stream, batch = name(), events(3)
    with ThreadPoolExecutor(8) as pool:
        sent = [pool.submit(append, stream, batch, ANY) for _ in range(24)]
        assert len({one.result() for one in sent}) == 1
        assert numbers(stream) == [0, 1, 2]
        others = [pool.submit(append, stream, events(2), ANY) for _ in range(24)]
        assert len({one.result() for one in others}) == 24
    assert len(numbers(stream)) == 51
    # A deleted stream comes back once, whoever is first.
    client.delete_stream(stream, current_version=ANY)
    with ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(append, stream, events(1), ANY) for _ in range(16)]:
            one.result()
    assert numbers(stream) == list(range(51, 67))


def check_what_is_not_served_says_so():
    request = projections_pb2.DisableReq()
    error = raises(grpc.RpcError, client.projections._stub.Disable, request)
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
    assert "without them" in error.details(), error


def check_nothing_to_append():
    stream = name()
    request = [streams_pb2.AppendReq(options=options(stream, "any"))]
    answer = client.streams._stub.Append(iter(request))
    assert answer.success.WhichOneof("current_revision_option") == "no_stream", answer
    append(stream, events(3), NONE)
    answer = client.streams._stub.Append(iter(request))
    assert answer.success.current_revision == 2, answer
    request = [streams_pb2.AppendReq(options=options(stream, "no_stream"))]
    answer = client.streams._stub.Append(iter(request))
    assert answer.wrong_expected_version.current_revision == 2, answer
    assert answer.wrong_expected_version.WhichOneof("expected_revision_option") == "expected_no_stream"


def options(stream, expected):
    made = streams_pb2.AppendReq.Options(
        stream_identifier=shared_pb2.StreamIdentifier(stream_name=stream.encode())
    )
    getattr(made, expected).CopyFrom(shared_pb2.Empty())
    return made


def check_appends_one_by_one():
    stream, id_ = name(), uuid4()
    bits = id_.int
    signed = [one - (1 << 64) if one >> 63 else one for one in (bits >> 64, bits & (1 << 64) - 1)]
    structured = shared_pb2.UUID.Structured(
        most_significant_bits=signed[0], least_significant_bits=signed[1]
    )
    message = streams_pb2.AppendReq.ProposedMessage(
        id=shared_pb2.UUID(structured=structured),
        metadata={"type": "T", "content-type": "application/json"},
        data=b"{}",
    )
    requests = [
        streams_pb2.AppendReq(options=options(stream, "no_stream")),
        streams_pb2.AppendReq(proposed_message=message),
    ]
    answer = client.streams._stub.Append(iter(requests))
    assert answer.success.current_revision == 0, answer
    assert client.get_stream(stream)[0].id == id_
    del message.metadata["type"]
    requests[1] = streams_pb2.AppendReq(proposed_message=message)
    error = raises(grpc.RpcError, client.streams._stub.Append, iter(requests))
    trailers = dict(error.trailing_metadata())
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert trailers["exception"] == "missing-required-metadata-property", trailers
    assert trailers["required-metadata-properties"] == "type,content-type", trailers
    message.metadata["type"], message.data = "T", b"x" * (1 << 20)
    requests[1] = streams_pb2.AppendReq(proposed_message=message)
    error = raises(grpc.RpcError, client.streams._stub.Append, iter(requests))
    trailers = dict(error.trailing_metadata())
    assert trailers["exception"] == "maximum-append-size-exceeded", trailers
    assert trailers["maximum-append-size"] == str(1 << 20), trailers


def check_large_appends():
    stream = name()
    append(stream, [event(data=b"x" * 1_000_000)], NONE)
    assert len(client.get_stream(stream)[0].data) == 1_000_000
    big = [event(data=b"x" * 600_000) for _ in range(2)]
    raises(MaximumAppendSizeExceededError, append, stream, big, ANY)
    assert numbers(stream) == [0]


def check_a_deleted_stream_comes_back():
    stream = name()
    append(stream, events(3), NONE)
    client.delete_stream(stream, current_version=2)
    raises(NotFoundError, client.get_stream, stream)
    seen = [one.stream_name for one in client.read_all(filter_exclude=())]
    assert stream not in seen
    raises(StreamIsDeletedError, append, stream, events(1), EXISTS)
    append(stream, events(2), NONE)
    assert numbers(stream) == [3, 4]
    seen = [one.stream_position for one in client.read_all(filter_exclude=()) if one.stream_name == stream]
    assert seen == [3, 4], seen
    assert client.get_stream_metadata(stream)[0] == {"$tb": 3}
    client.delete_stream(stream, current_version=ANY)
    append(stream, events(1), ANY)
    assert numbers(stream) == [5]
    client.delete_stream(stream, current_version=5)
    append(stream, events(1), 5)
    assert numbers(stream) == [6]
    raises(WrongCurrentVersionError, client.delete_stream, stream, current_version=2)
    raises(NotFoundError, client.delete_stream, name(), current_version=1)
    client.delete_stream(name(), current_version=ANY)


def check_a_deletion_counts_at_once():
    stream = name()
    for _ in range(3):
        append(stream, events(1), NONE)
        client.delete_stream(stream, current_version=EXISTS)
    raises(StreamIsDeletedError, append, stream, events(1), EXISTS)
    append(stream, events(1), NONE)
    assert numbers(stream) == [3]


def check_a_tombstone_is_for_ever():
    stream = name()
    append(stream, events(3), NONE)
    raises(WrongCurrentVersionError, client.tombstone_stream, stream, current_version=1)
    client.tombstone_stream(stream, current_version=2)
    raises(StreamIsDeletedError, client.get_stream, stream)
    for expected in [ANY, EXISTS, NONE, 2]:
        raises(StreamIsDeletedError, append, stream, events(1), expected)
    raises(StreamIsDeletedError, client.delete_stream, stream, current_version=ANY)
    raises(StreamIsDeletedError, client.tombstone_stream, stream, current_version=ANY)
    last = [one for one in client.read_all(filter_exclude=()) if one.stream_name == stream]
    assert [(one.type, one.stream_position) for one in last] == [("$streamDeleted", (1 << 63) - 1)], last
    never = name()
    client.tombstone_stream(never, current_version=ANY)
    raises(StreamIsDeletedError, append, never, events(1), ANY)


def check_metadata_hides_events():
    stream = name()
    assert client.get_stream_metadata(stream) == ({}, NONE)
    client.set_stream_metadata(stream, metadata={"$maxCount": 3, "mine": [1]}, current_version=NONE)
    metadata, version = client.get_stream_metadata(stream)
    assert (metadata, version) == ({"$maxCount": 3, "mine": [1]}, 0)
    append(stream, events(10), EXISTS)
    assert numbers(stream) == [7, 8, 9]
    assert numbers(stream, backwards=True) == [9, 8, 7]
    assert numbers(stream, stream_position=2, limit=2) == [7, 8]
    client.set_stream_metadata(stream, metadata={"$maxCount": 3, "$tb": 9}, current_version=0)
    assert numbers(stream) == [9]
    client.set_stream_metadata(stream, metadata={"$tb": 4, "$acl": {"$r": "ada"}}, current_version=1)
    assert numbers(stream) == [4, 5, 6, 7, 8, 9]
    raises(WrongCurrentVersionError, client.set_stream_metadata, stream, metadata={}, current_version=1)
    client.set_stream_metadata(stream, metadata={"$maxAge": 3600}, current_version=2)
    assert len(numbers(stream)) == 10
    # A metadata stream shows the last metadata alone.
    assert numbers("$$" + stream) == [3]
    assert client.get_stream("$$" + stream)[0].type == "$metadata"


def check_age_count_and_truncation_together():
    stream = name()
    append(stream, events(10), NONE)
    together = {"$maxAge": 3600, "$maxCount": 5, "$tb": 7}
    client.set_stream_metadata(stream, metadata=together, current_version=NONE)
    assert numbers(stream) == [7, 8, 9]
    client.set_stream_metadata(stream, metadata=together | {"$tb": 2}, current_version=0)
    assert numbers(stream) == [5, 6, 7, 8, 9]
    client.set_stream_metadata(stream, metadata=together | {"$tb": 2, "$maxAge": 1}, current_version=1)
    # They grow too old, and what comes later is not.
    until = time.monotonic() + 60
    while shown(stream):
        assert time.monotonic() < until
    append(stream, events(1), EXISTS)
    assert numbers(stream) == [10]


def shown(stream):
    try:
        return numbers(stream)
    except NotFoundError:
        return []


def check_links_lead_to_events():
    stream, links = name(), name("links")
    append(stream, events(3), NONE)
    link = lambda text: NewEvent(type="$>", data=text.encode(), content_type="application/octet-stream")
    append(links, [link(f"2@{stream}"), link(f"0@{stream}"), link("7@nowhere")], NONE)
    plain = client.get_stream(links)
    assert [one.type for one in plain] == ["$>"] * 3 and plain[0].link is None
    seen = client.get_stream(links, resolve_links=True)
    assert [(one.stream_name, one.stream_position) for one in seen] == [(stream, 2), (stream, 0)]
    assert [(one.link.stream_name, one.link.stream_position) for one in seen] == [(links, 0), (links, 1)]


def check_categories_and_types_are_answered():
    category, kind = "category" + uuid4().hex, "Kind" + uuid4().hex
    streams = [f"{category}-{number}" for number in range(3)]
    for number in range(4):
        for stream in streams:
            append(stream, [event(kind)], ANY)
    append(category, [event()], ANY)
    for indexed in [f"$ce-{category}", f"$et-{kind}"]:
        plain = client.get_stream(indexed)
        assert [one.stream_position for one in plain] == list(range(12)), plain
        assert plain[4].data.decode() == f"1@{streams[1]}" and plain[4].type == "$>"
        seen = client.get_stream(indexed, resolve_links=True)
        assert [one.stream_name for one in seen] == streams * 4
        assert [one.link.stream_position for one in seen] == list(range(12))
        assert numbers(indexed, backwards=True) == list(reversed(range(12)))
        assert numbers(indexed, stream_position=10) == [10, 11]
        assert numbers(indexed, stream_position=1, backwards=True) == [1, 0]
        assert numbers(indexed, stream_position=12) == []
    raises(NotFoundError, client.get_stream, "$ce-" + uuid4().hex)
    raises(AccessDeniedError, append, f"$ce-{category}", events(1), ANY)


def check_several_streams_at_once():
    first, second = name(), name("invoice")
    parts = [NewEvents(first, events=events(2), current_version=NONE), NewEvents(second, events=events(1), current_version=ANY)]
    position = client.multi_append_to_stream(parts)
    assert client.get_stream(second)[0].commit_position == position
    assert numbers(first) == [0, 1]
    again = client.multi_append_to_stream(parts)
    assert (again, numbers(first), numbers(second)) == (position, [0, 1], [0])
    wrong = [NewEvents(first, events=events(1), current_version=1), NewEvents(second, events=events(1), current_version=NONE)]
    error = raises(WrongCurrentVersionError, client.multi_append_to_stream, wrong)
    assert (error.stream_name, error.actual_version) == (second, 0), error
    assert (numbers(first), numbers(second)) == ([0, 1], [0])


def check_records_under_checks_of_other_streams():
    first, second, checked = name(), name("invoice"), name("customer")
    append(checked, events(1), NONE)
    records = [NewRecord(stream, "Paid", b"{}") for stream in [first, second, first]]
    checks = [StreamStateCheck(checked, 0), StreamStateCheck(first, NONE)]
    answer = client.append_records(records, checks)
    places = [(one.stream_name, one.stream_position) for one in answer.stream_positions]
    assert sorted(places) == sorted([(first, 1), (second, 0)]), places
    assert client.get_stream(first)[1].id == records[2].id
    # The same again is there once, and what a check does not allow is not there at all.
    again = client.append_records(records, checks)
    assert again.commit_position == answer.commit_position
    assert (numbers(first), numbers(second)) == ([0, 1], [0])
    wrong = [StreamStateCheck(first, 1), StreamStateCheck(checked, 5)]
    new = NewRecord(second, "Paid", b"{}")
    error = raises(ConsistencyChecksFailedError, client.append_records, [new], wrong)
    failure = error.failures[0]
    assert failure.check_index == 1, error.failures
    state = failure.stream_state_failure
    assert (state.stream_name, state.expected_state, state.actual_state) == (checked, 5, 0), state
    assert numbers(second) == [0]
    client.delete_stream(checked, current_version=ANY)
    client.append_records([new], [StreamStateCheck(checked, NONE)])
    assert numbers(second) == [0, 1]
    # What is stored stays so, whatever became of the checked stream.
    append(checked, events(1), ANY)
    stored = NewRecord(second, "Paid", b"{}")
    checks = [StreamStateCheck(checked, 1), StreamStateCheck(second, 1)]
    answer = client.append_records([stored], checks)
    append(checked, events(1), ANY)
    assert client.append_records([stored], checks) == answer
    assert numbers(second) == [0, 1, 2]


def check_what_the_server_says_of_itself():
    node = client.read_gossip()
    assert [one.state for one in node] == ["NODE_STATE_LEADER"], node
    assert f"{node[0].address}:{node[0].port}" == address()


if __name__ == "__main__":
    run(globals())
