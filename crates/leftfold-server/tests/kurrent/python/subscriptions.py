"""Catch-up subscriptions, by kurrentdbclient."""

from uuid import uuid4

from clients import ANY, NONE, connect, event, events, name, raises, run
from kurrentdbclient import CaughtUp, Checkpoint
from kurrentdbclient.exceptions import StreamIsDeletedError

client = connect()


def append(stream, new, expected=ANY):
    return client.append_to_stream(stream, current_version=expected, events=new)


def check_a_stream_is_followed():
    stream = name()
    append(stream, events(3))
    with client.subscribe_to_stream(stream, include_caught_up=True) as following:
        assert following.subscription_id
        assert [next(following).stream_position for _ in range(3)] == [0, 1, 2]
        caught_up = next(following)
        assert isinstance(caught_up, CaughtUp) and caught_up.stream_position == 2, caught_up
        append(name(), events(1))
        append(stream, events(2))
        assert [next(following).stream_position for _ in range(2)] == [3, 4]
    with client.subscribe_to_stream(stream, stream_position=1) as following:
        assert next(following).stream_position == 2
    with client.subscribe_to_stream(stream, from_end=True, include_caught_up=True) as following:
        assert isinstance(next(following), CaughtUp)
        append(stream, events(1))
        assert next(following).stream_position == 5
    # From a revision that is still to come.
    with client.subscribe_to_stream(stream, stream_position=6, include_caught_up=True) as following:
        assert isinstance(next(following), CaughtUp)
        append(stream, events(2))
        assert next(following).stream_position == 7


def check_a_stream_that_is_not_there_yet():
    stream = name()
    with client.subscribe_to_stream(stream, include_caught_up=True) as following:
        assert isinstance(next(following), CaughtUp)
        append(stream, events(1))
        assert next(following).stream_position == 0
        client.tombstone_stream(stream, current_version=ANY)
        assert next(following).type == "$streamDeleted"
        raises(StreamIsDeletedError, next, following)
    with client.subscribe_to_stream(stream) as following:
        raises(StreamIsDeletedError, next, following)


def check_hidden_events_are_not_sent():
    stream = name()
    append(stream, events(5))
    client.set_stream_metadata(stream, metadata={"$tb": 2, "$maxCount": 2}, current_version=NONE)
    with client.subscribe_to_stream(stream) as following:
        assert next(following).stream_position == 3


def check_all_events_are_followed():
    stream = name()
    last = append(stream, events(3))
    wanted = dict(commit_position=last - 3, filter_exclude=(), include_caught_up=True)
    with client.subscribe_to_all(**wanted) as following:
        seen = [next(following) for _ in range(3)]
        assert [one.stream_position for one in seen] == [0, 1, 2]
        caught_up = next(following)
        assert isinstance(caught_up, CaughtUp) and caught_up.commit_position == last, caught_up
        append(stream, events(1))
        assert next(following).stream_position == 3
    with client.subscribe_to_all(from_end=True, filter_exclude=(), include_caught_up=True) as following:
        assert isinstance(next(following), CaughtUp)
        append(stream, events(1))
        assert next(following).stream_position == 4


def check_filters_and_their_checkpoints():
    kind, stream = "Kind" + uuid4().hex, name()
    before = append(stream, events(1))
    for number in range(20):
        append(stream, events(10))
        if number % 10 == 9:
            append(stream, [event(kind)])
    head = append(stream, events(25))
    # Nothing passes, and checkpoints come all the same, the last one at the end.
    nothing = dict(
        commit_position=before,
        filter_include=["Nothing" + kind],
        window_size=5,
        checkpoint_interval_multiplier=4,
        include_checkpoints=True,
        include_caught_up=True,
    )
    with client.subscribe_to_all(**nothing) as following:
        marks = []
        while not isinstance(mark := next(following), CaughtUp):
            assert isinstance(mark, Checkpoint), mark
            marks.append(mark.commit_position)
        assert marks == sorted(set(marks)) and marks[-1] == head, marks
        append(stream, events(30))
        live = next(following)
        assert isinstance(live, Checkpoint) and live.commit_position > head, live
    # Whoever comes back to a checkpoint misses nothing.
    for how in [dict(filter_include=[kind]), dict(filter_include=[kind], filter_by_prefix=True)]:
        wanted = nothing | how
        with client.subscribe_to_all(**wanted) as following:
            seen, marks = [], []
            while not isinstance(one := next(following), CaughtUp):
                (marks if isinstance(one, Checkpoint) else seen).append(one)
            assert [one.type for one in seen] == [kind] * 2, seen
        for mark in marks:
            with client.subscribe_to_all(**wanted | dict(commit_position=mark.commit_position)) as following:
                rest = []
                while not isinstance(one := next(following), CaughtUp):
                    rest += [] if isinstance(one, Checkpoint) else [one.id]
                later = [one.id for one in seen if one.commit_position > mark.commit_position]
                assert rest == later, (mark, rest, later)
    # Of streams by a regular expression, and what is left out by default.
    by_name = dict(filter_include=[stream], filter_by_stream_name=True)
    with client.subscribe_to_all(commit_position=before - 1, **by_name) as following:
        assert next(following).stream_name == stream
    with client.subscribe_to_all(commit_position=before - 1) as following:
        assert next(following).commit_position == before


def check_categories_are_followed():
    category = "followed" + uuid4().hex
    append(f"{category}-1", events(2))
    wanted = dict(resolve_links=True, include_caught_up=True)
    with client.subscribe_to_stream(f"$ce-{category}", **wanted) as following:
        assert [next(following).link.stream_position for _ in range(2)] == [0, 1]
        assert isinstance(next(following), CaughtUp)
        append(f"{category}-2", events(1))
        seen = next(following)
        assert (seen.stream_name, seen.link.stream_position) == (f"{category}-2", 2)
    with client.subscribe_to_stream(f"$ce-{category}", stream_position=1, **wanted) as following:
        assert next(following).link.stream_position == 2


if __name__ == "__main__":
    run(globals())
