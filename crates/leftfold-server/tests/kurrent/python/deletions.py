"""What is known of deleted streams when others changed it last, by kurrentdbclient."""

from clients import ANY, EXISTS, NONE, connect, event, events, name, raises, run
from kurrentdbclient import NewEvent
from kurrentdbclient.exceptions import (
    NotFoundError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)

client = connect()


def append(stream, new, expected):
    return client.append_to_stream(stream, current_version=expected, events=new)


def numbers(stream):
    return [one.stream_position for one in client.get_stream(stream)]


def everywhere(stream):
    found = client.read_all(filter_exclude=())
    return [one.stream_position for one in found if one.stream_name == stream]


def deleted():
    """A stream that had 3 events; nobody has read since it was deleted."""
    stream = name()
    append(stream, events(3), NONE)
    client.delete_stream(stream, current_version=2)
    return stream


def check_metadata_of_a_deleted_stream_does_not_show_what_it_had():
    stream = deleted()
    client.set_stream_metadata(stream, metadata={"$maxCount": 100, "mine": 1}, current_version=ANY)
    assert client.get_stream_metadata(stream)[0] == {"$maxCount": 100, "mine": 1, "$tb": 3}
    assert (numbers(stream), everywhere(stream)) == ([], [])
    append(stream, events(2), 2)
    assert (numbers(stream), everywhere(stream)) == ([3, 4], [3, 4])
    # What stands beside the mark stays when the stream comes back by an event.
    stream = deleted()
    gone = {"$tb": (1 << 63) - 1, "$maxCount": 2}
    client.set_stream_metadata(stream, metadata={}, current_version=ANY)
    client.set_stream_metadata(stream, metadata=gone, current_version=ANY)
    raises(NotFoundError, client.get_stream, stream)
    append(stream, events(1), ANY)
    assert client.get_stream_metadata(stream)[0] == {"$tb": 3, "$maxCount": 2}


def check_an_append_right_after_a_change_is_judged_by_it():
    stream = deleted()
    append(stream, events(2), NONE)
    assert numbers(stream) == [3, 4]
    stream = name()
    client.set_stream_metadata(stream, metadata={"mine": 1}, current_version=NONE)
    append(stream, events(1), EXISTS)
    stream = name()
    append(stream, events(3), NONE)
    client.tombstone_stream(stream, current_version=2)
    raises(StreamIsDeletedError, append, stream, events(1), NONE)
    stream = deleted()
    append(stream, [], NONE)


def check_a_stale_revision_of_a_deleted_stream_is_wrong():
    stream = deleted()
    raises(NotFoundError, client.get_stream, stream)
    for wrong in [1, 7]:
        raises(WrongCurrentVersionError, append, stream, events(1), wrong)
        raises(WrongCurrentVersionError, client.append_event, stream, current_version=wrong, event=event())
    append(stream, events(1), 2)
    assert numbers(stream) == [3]


def check_an_event_of_any_type_in_a_metadata_stream_closes_nothing():
    stream = name()
    client.set_stream_metadata(stream, metadata={"$maxCount": 1}, current_version=NONE)
    append(stream, events(2), ANY)
    append("$$" + stream, [event("foo", b'{"$tb": 1}')], ANY)
    append(stream, events(2), 1)
    assert numbers(stream) == [1, 2, 3]
    link = NewEvent(type="$>", data=b"0@nowhere", content_type="application/octet-stream")
    append("$$" + stream, [link], ANY)
    append(stream, events(1), ANY)
    assert numbers(stream) == [0, 1, 2, 3, 4]
    client.delete_stream(stream, current_version=4)
    raises(NotFoundError, client.get_stream, stream)


def check_those_who_follow_see_a_stream_come_back():
    stream = deleted()
    kind = name("Kind")
    everything = client.subscribe_to_all(from_end=True, filter_exclude=())
    category = client.subscribe_to_stream("$et-" + kind, resolve_links=True)
    # Both know of the deletion by now: this comes behind it.
    append(name(), [event(kind)], NONE)
    assert next(everything).type == next(category).type == kind
    append(stream, [event(kind)], NONE)
    for following in [everything, category]:
        found = next(following)
        assert (found.stream_name, found.stream_position) == (stream, 3), found
        following.stop()


if __name__ == "__main__":
    run(globals())
