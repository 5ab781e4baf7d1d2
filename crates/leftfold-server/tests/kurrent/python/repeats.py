"""Appends that are sent again after their stream was deleted or came back, by kurrentdbclient."""

from clients import ANY, EXISTS, NONE, connect, event, events, name, raises, run
from kurrentdbclient import NewEvents
from kurrentdbclient.exceptions import NotFoundError, WrongCurrentVersionError

client = connect()


def append(stream, new, expected):
    return client.append_to_stream(stream, current_version=expected, events=new)


def seen(stream):
    """What is shown of a stream, by itself and among all events."""
    try:
        alone = [one.id for one in client.get_stream(stream)]
    except NotFoundError:
        alone = None
    return alone, [one.id for one in client.read_all(filter_exclude=()) if one.stream_name == stream]


def beginnings():
    """Each expectation with the states of a stream under which it holds."""
    for state in ["absent", "there", "deleted", "deleted twice"]:
        for expected in [ANY, EXISTS, NONE, "revision"]:
            if expected == EXISTS and state != "there":
                continue
            if expected == NONE and state == "there":
                continue
            if expected == "revision" and state == "absent":
                continue
            stream, last = name(), 2
            if state != "absent":
                append(stream, events(3), NONE)
            if state == "deleted twice":
                client.delete_stream(stream, current_version=ANY)
                append(stream, events(2), NONE)
                last = 4
            if state.startswith("deleted"):
                client.delete_stream(stream, current_version=ANY)
            yield state, stream, last if expected == "revision" else expected


def later(stream):
    """Makes one thing after another happen to a stream."""
    yield "nothing"
    append(stream, events(1), ANY)
    yield "more events"
    client.set_stream_metadata(stream, metadata={"$tb": 1}, current_version=ANY)
    yield "truncated"
    client.delete_stream(stream, current_version=ANY)
    yield "deleted"
    append(stream, events(2), NONE)
    yield "came back"
    client.delete_stream(stream, current_version=ANY)
    yield "deleted again"
    append(stream, events(2), ANY)
    yield "came back again"


def check_an_append_is_answered_as_the_first_time_whatever_became_of_its_stream():
    for state, stream, expected in beginnings():
        sent = events(2)
        position = append(stream, sent, expected)
        for since in later(stream):
            before, row = seen(stream), (state, expected, since)
            assert append(stream, sent, expected) == position, row
            assert client.append_events(stream, current_version=expected, events=sent) == position, row
            assert seen(stream) == before, row


def check_several_streams_that_came_back_are_recognised_together():
    streams = [name(), name("invoice")]
    for stream in streams:
        append(stream, events(2), NONE)
        client.delete_stream(stream, current_version=ANY)
    parts = [NewEvents(stream, events=events(2), current_version=NONE) for stream in streams]
    position = client.multi_append_to_stream(parts)
    before = [seen(stream) for stream in streams]
    assert client.multi_append_to_stream(parts) == position
    client.delete_stream(streams[0], current_version=ANY)
    assert client.multi_append_to_stream(parts) == position
    assert seen(streams[1]) == before[1] and seen(streams[0]) == (None, [])


def check_other_events_are_no_repetition():
    stream = name()
    first, back = events(3), events(2)
    append(stream, first, NONE)
    client.delete_stream(stream, current_version=ANY)
    append(stream, back, NONE)
    for wrong in [events(2), [back[0], event()], [back[1]], [*back, event()], [first[1]]]:
        raises(WrongCurrentVersionError, append, stream, wrong, NONE)
    # An event that stands where the stream did not begin is no repetition of one that began it.
    client.delete_stream(stream, current_version=ANY)
    assert seen(stream) == (None, [])
    append(stream, [back[1]], NONE)
    assert seen(stream)[0] == [back[1].id]


if __name__ == "__main__":
    run(globals())
