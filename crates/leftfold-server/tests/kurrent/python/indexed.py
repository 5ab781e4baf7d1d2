"""Streams that projections of their server write, by kurrentdbclient."""

import json
from uuid import uuid4

from clients import ANY, NONE, connect, event, events, name, raises, run
from kurrentdbclient import CaughtUp, NewEvent, NewEvents
from kurrentdbclient.exceptions import AccessDeniedError, NotFoundError

client = connect()


def append(stream, new, expected=ANY):
    return client.append_to_stream(stream, current_version=expected, events=new)


def correlated(id_, **more):
    return event(metadata=json.dumps({"a": "b", "$correlationId": id_} | more).encode())


def places(stream, **how):
    return [(one.stream_name, one.stream_position) for one in client.get_stream(stream, resolve_links=True, **how)]


def check_the_events_of_a_correlation():
    id_, streams = str(uuid4()), [name(), name("invoice")]
    indexed = f"$bc-{id_}"
    raises(NotFoundError, client.get_stream, indexed)
    for stream in streams:
        append(stream, [event(), correlated(id_), correlated(str(uuid4())), correlated(id_, b="c")])
    link = NewEvent(type="$>", data=b"0@x", metadata=correlated(id_).metadata, content_type="application/octet-stream")
    append(name("links"), [link])
    wanted = [(stream, at) for stream in streams for at in [1, 3]]
    assert places(indexed) == wanted
    assert places(indexed, backwards=True) == wanted[::-1]
    assert places(indexed, stream_position=3) == wanted[3:]
    plain = client.get_stream(indexed)
    assert [(one.type, one.stream_name, one.stream_position) for one in plain] == [("$>", indexed, at) for at in range(4)]
    assert plain[2].data.decode() == f"1@{streams[1]}"
    with client.subscribe_to_stream(indexed, stream_position=2, resolve_links=True, include_caught_up=True) as following:
        found = next(following)
        assert (found.stream_name, found.stream_position) == wanted[3]
        assert isinstance(next(following), CaughtUp)
        append(streams[0], [correlated(id_)])
        found = next(following)
        assert (found.stream_position, found.link.stream_position) == (4, 4), found
    # By an append to several streams too, and by a number.
    client.multi_append_to_stream([NewEvents(name(), events=[correlated(id_)], current_version=NONE)])
    assert len(places(indexed)) == 6
    number = uuid4().int % 1_000_000_000
    append(name(), [correlated(number)])
    assert len(places(f"$bc-{number}")) == 1
    raises(AccessDeniedError, append, indexed, events(1))


def check_metadata_that_names_no_correlation():
    stream = name()
    odd = [b"", b"$correlationId", b'{"$correlationId": null}', b'{"$correlationId": ["x"]}', b'["$correlationId"]']
    odd += [b'{"$correlationId": "%s"}' % (b"x" * 600), b'{"$correlationId": ""}']
    sent = [NewEvent(type="Odd", data=b"{}", metadata=metadata) for metadata in odd]
    append(stream, sent)
    assert [one.metadata for one in client.get_stream(stream)] == odd


def check_all_streams():
    streams = [name() for _ in range(5)]
    for stream in streams:
        append(stream, events(3))
        append(streams[0], events(2))
    client.set_stream_metadata(streams[1], metadata={"$maxCount": 5}, current_version=ANY)
    found = places("$streams")
    assert [place for place in found if place[0] in streams] == [(stream, 0) for stream in streams]
    assert (f"$${streams[1]}", 0) in found
    assert found == list(reversed(places("$streams", backwards=True)))
    numbers = [one.stream_position for one in client.get_stream("$streams")]
    assert numbers == list(range(len(numbers))), numbers
    at = found.index((streams[3], 0))
    assert places("$streams", stream_position=at)[:2] == [(streams[3], 0), (streams[4], 0)]
    assert client.get_stream("$streams", stream_position=at, limit=1)[0].data.decode() == f"0@{streams[3]}"
    # A stream that was deleted has its link, which leads nowhere.
    client.delete_stream(streams[2], current_version=ANY)
    assert len(client.get_stream("$streams")) >= len(found)
    assert (streams[2], 0) not in places("$streams")
    last, new = len(client.get_stream("$streams")) - 1, name()
    with client.subscribe_to_stream("$streams", stream_position=last, resolve_links=True) as following:
        append(streams[0], events(1))
        append(new, events(2))
        found = next(following)
        assert (found.stream_name, found.stream_position) == (new, 0), found
    raises(AccessDeniedError, append, "$streams", events(1))


def check_the_streams_of_a_category():
    category = "category" + uuid4().hex
    raises(NotFoundError, client.get_stream, f"$category-{category}")
    streams = [f"{category}-{number}" for number in range(4)]
    for stream in streams * 2:
        append(stream, events(2))
    append(category, events(1))
    for how in [True, False]:
        found = client.get_stream(f"$category-{category}", resolve_links=how)
        assert [one.data.decode() for one in found] == streams, found
        assert {(one.type, one.link) for one in found} == {("$@", None)}, found
        assert [one.stream_position for one in found] == [0, 1, 2, 3]
    raises(AccessDeniedError, append, f"$category-{category}", events(1))


if __name__ == "__main__":
    run(globals())
