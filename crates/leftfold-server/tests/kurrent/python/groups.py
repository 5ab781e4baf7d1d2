"""Persistent subscriptions, by kurrentdbclient."""

import json
import queue
import threading
from uuid import uuid4

import grpc
from clients import ANY, NONE, connect, event, events, name, raises, run
from kurrentdbclient.exceptions import (
    AlreadyExistsError,
    CancelledError,
    MaximumSubscriptionsReachedError,
    NotFoundError,
)
from kurrentdbclient.protos.v1 import persistent_pb2, shared_pb2

client = connect()
# Subscriptions that the server ended: the client takes seconds to put one away.
ended = []


def append(stream, new, expected=ANY):
    return client.append_to_stream(stream, current_version=expected, events=new)


def create(stream, group="workers", **settings):
    client.create_subscription_to_stream(group, stream, **settings)


def read(stream, group="workers", **more):
    return client.read_subscription_to_stream(group, stream, max_ack_delay=0.01, stopping_grace=0, **more)


def take(subscription, count):
    return [next(subscription) for _ in range(count)]


def numbers(seen):
    return [one.stream_position for one in seen]


def info(stream, group="workers"):
    return client.get_subscription_info(group, stream)


def until(stream, wanted):
    while not wanted(found := info(stream)):
        pass
    return found


def check_what_there_is_is_told():
    stream = name()
    raises(NotFoundError, info, stream)
    raises(NotFoundError, client.delete_subscription, "workers", stream)
    raises(NotFoundError, client.update_subscription_to_stream, "workers", stream)
    raises(NotFoundError, client.replay_parked_events, "workers", stream)
    raises(NotFoundError, read, stream)
    assert client.list_subscriptions_to_stream(stream) == []
    settings = dict(
        resolve_links=True, message_timeout=17.0, max_retry_count=3, min_checkpoint_count=5,
        max_checkpoint_count=50, checkpoint_after=1.5, max_subscriber_count=4, live_buffer_size=60,
        read_batch_size=30, history_buffer_size=70, extra_statistics=True,
    )
    create(stream, consumer_strategy="Pinned", **settings)
    raises(AlreadyExistsError, create, stream)
    create(stream, "others", from_end=True, consumer_strategy="PinnedByCorrelation")
    found = info(stream)
    assert {key: getattr(found, key) for key in settings} == settings, found
    assert (found.event_source, found.group_name) == (stream, "workers")
    assert (found.start_from, found.consumer_strategy, found.status) == ("0", "Pinned", "Live")
    assert (found.last_checkpointed_event_position, found.last_known_event_position) == ("", "")
    assert (found.parked_message_count, found.connections) == (0, [])
    listed = client.list_subscriptions_to_stream(stream)
    assert [one.group_name for one in listed] == ["others", "workers"], listed
    other = listed[0]
    assert (other.start_from, other.consumer_strategy) == ("-1", "PinnedByCorrelation")
    mine = [one for one in client.list_subscriptions() if one.event_source == stream]
    assert len(mine) == 2
    client.delete_subscription("others", stream)
    assert len(client.list_subscriptions_to_stream(stream)) == 1
    # A name that was free again begins anew.
    create(stream, "others")
    assert info(stream, "others").start_from == "0"


def check_a_beginning_is_a_revision_the_end_or_the_start():
    stream = name()
    append(stream, events(5))
    for number, (where, first) in enumerate([({}, 0), (dict(stream_position=3), 3), (dict(from_end=True), 5),
                                             (dict(stream_position=6), 6)]):
        create(stream, f"group{number}", **where)
    append(stream, events(3))
    for number, first in enumerate([0, 3, 5, 6]):
        with read(stream, f"group{number}") as subscription:
            assert subscription.subscription_id == f"{stream}::group{number}"
            assert numbers(take(subscription, 8 - first)) == list(range(first, 8))
    assert info(stream, "group1").start_from == "3"


def check_two_consumers_share_and_none_gets_what_the_other_has():
    stream = name()
    append(stream, events(20))
    create(stream, consumer_strategy="RoundRobin")
    with read(stream, event_buffer_size=10) as one, read(stream, event_buffer_size=10) as other:
        # Whoever came first has at least its buffer.
        shared = numbers(take(one, 10)), numbers(take(other, 10))
        assert sorted(shared[0] + shared[1]) == list(range(20)), shared
        found = until(stream, lambda found: found.total_in_flight_messages == 20)
        assert len(found.connections) == 2 and found.outstanding_messages_count == 20
        assert all(one.available_slots == 0 and one.in_flight_messages == 10 for one in found.connections)
        assert found.last_known_event_position == "19"


def check_acks_move_the_checkpoint_and_a_new_consumer_goes_on_there():
    stream = name()
    append(stream, events(6))
    create(stream, min_checkpoint_count=1, max_checkpoint_count=2)
    with read(stream) as subscription:
        for one in take(subscription, 4):
            subscription.ack(one)
        until(stream, lambda found: found.last_checkpointed_event_position == "3")
    with read(stream) as subscription:
        seen = take(subscription, 2)
        # Those that the first one had and did not answer.
        assert [(one.stream_position, one.retry_count) for one in seen] == [(4, 1), (5, 1)], seen


def check_nacks():
    stream = name()
    append(stream, events(5))
    create(stream, max_retry_count=2)
    with read(stream) as subscription:
        seen = take(subscription, 5)
        subscription.nack(seen[0], "retry")
        again = next(subscription)
        assert (again.id, again.retry_count) == (seen[0].id, 1), again
        subscription.nack(again, "unknown")
        again = next(subscription)
        assert (again.id, again.retry_count) == (seen[0].id, 2), again
        # Given out as often as it may be.
        subscription.nack(again, "retry")
        subscription.nack(seen[1], "park")
        subscription.nack(seen[2], "skip")
        subscription.ack(seen[3])
        wanted = lambda found: (found.parked_message_count, found.total_in_flight_messages) == (2, 1)
        until(stream, wanted)
        # It settles the event, and stops nothing.
        subscription.nack(seen[4], "stop")
        until(stream, lambda found: found.total_in_flight_messages == 0)
        append(stream, events(1))
        assert next(subscription).stream_position == 5
    parked = client.get_stream(f"$persistentsubscription-{stream}::workers-parked")
    assert [(one.type, one.data.decode()) for one in parked] == [("$>", f"0@{stream}"), ("$>", f"1@{stream}")]
    assert "Client explicitly NAK'ed" in json.loads(parked[1].metadata)["reason"], parked[1]
    resolved = client.get_stream(f"$persistentsubscription-{stream}::workers-parked", resolve_links=True)
    assert [one.id for one in resolved] == [seen[0].id, seen[1].id]
    assert resolved[0].link.stream_position == 0


def check_what_is_not_answered_comes_again_and_is_parked_in_the_end():
    stream = name()
    append(stream, events(1))
    create(stream, message_timeout=0.05, max_retry_count=2)
    with read(stream) as subscription:
        seen = take(subscription, 3)
        assert [one.retry_count for one in seen] == [0, 1, 2], seen
        until(stream, lambda found: found.parked_message_count == 1)
        # It is settled: nobody has it.
        assert info(stream).total_in_flight_messages == 0


def check_parked_events_are_replayed():
    stream = name()
    append(stream, events(3))
    create(stream)
    with read(stream) as subscription:
        for one in take(subscription, 3):
            subscription.nack(one, "park")
        until(stream, lambda found: found.parked_message_count == 3)
        options = persistent_pb2.ReplayParkedReq.Options(
            group_name="workers", stop_at=1,
            stream_identifier=shared_pb2.StreamIdentifier(stream_name=stream.encode()),
        )
        client.persistent_subscriptions._stub.ReplayParked(persistent_pb2.ReplayParkedReq(options=options))
        first = next(subscription)
        assert (first.stream_position, first.retry_count) == (0, 0), first
        subscription.ack(first)
        assert info(stream).parked_message_count == 2
        client.replay_parked_events("workers", stream)
        assert info(stream).parked_message_count == 0
        rest = take(subscription, 2)
        assert numbers(rest) == [1, 2]
        subscription.nack(rest[0], "park")
        subscription.ack(rest[1])
        until(stream, lambda found: found.parked_message_count == 1)
        parked = client.get_stream(f"$persistentsubscription-{stream}::workers-parked", resolve_links=True)
        assert [(one.link.stream_position, one.stream_position) for one in parked] == [(3, 1)], parked


def check_updates_and_deletions_drop_consumers():
    stream = name()
    create(stream, max_subscriber_count=1)
    subscription = read(stream)
    error = raises(MaximumSubscriptionsReachedError, read, stream)
    assert "Maximum subscriptions reached" in str(error)
    client.update_subscription_to_stream("workers", stream, max_subscriber_count=2, max_retry_count=7)
    assert "was dropped" in str(raises(CancelledError, next, subscription))
    found = info(stream)
    assert (found.max_retry_count, found.max_subscriber_count) == (7, 2), found
    with read(stream) as one, read(stream) as other:
        append(stream, events(1))
        assert numbers(take(one, 1)) == [0]
        client.delete_subscription("workers", stream)
        for dropped in [one, other]:
            assert "was dropped" in str(raises(CancelledError, next, dropped))
    raises(NotFoundError, read, stream)


def check_another_beginning_holds_while_nothing_was_settled():
    stream = name()
    append(stream, events(3))
    create(stream)
    client.update_subscription_to_stream("workers", stream, stream_position=2)
    assert info(stream).start_from == "2"
    with read(stream) as subscription:
        assert next(subscription).stream_position == 2


def check_all_events_with_a_filter():
    kind, group = "Kind" + uuid4().hex, "group" + uuid4().hex
    client.create_subscription_to_all(
        group, filter_include=[kind], from_end=True, min_checkpoint_count=1, max_checkpoint_count=1
    )
    raises(AlreadyExistsError, client.create_subscription_to_all, group)
    stream = name()
    last = append(stream, [event(kind), event("Other"), event(kind)])
    with client.read_subscription_to_all(group, max_ack_delay=0.01) as subscription:
        assert subscription.subscription_id == f"$all::{group}"
        seen = take(subscription, 2)
        assert numbers(seen) == [0, 2] and seen[1].commit_position == last
        for one in seen:
            subscription.ack(one)
        append(stream, events(3) + [event(kind)])
        assert next(subscription).stream_position == 6
        while not (found := client.get_subscription_info(group)).last_checkpointed_event_position:
            pass
    assert (found.event_source, found.start_from) == ("$all", "C:-1/P:-1")
    reached = int(found.last_checkpointed_event_position.split("P:")[1])
    assert reached >= last, found
    assert group in [one.group_name for one in client.list_subscriptions_to_stream("$all")]
    # From the position of an event, this one included, and by the names of streams.
    client.create_subscription_to_all(
        group + "2", commit_position=last, filter_include=[stream], filter_by_stream_name=True
    )
    with client.read_subscription_to_all(group + "2") as subscription:
        assert next(subscription).commit_position == last
    client.update_subscription_to_all(group, from_end=True, max_retry_count=2)
    append(stream, events(1) + [event(kind)])
    with client.read_subscription_to_all(group) as subscription:
        assert numbers(take(subscription, 2)) == [6, 8], "the filter is kept"
    client.delete_subscription(group)
    raises(NotFoundError, client.get_subscription_info, group)


def check_links_are_resolved():
    category = "kind" + uuid4().hex
    append(f"{category}-1", events(2))
    append(f"{category}-2", events(2))
    stream = f"$ce-{category}"
    create(stream, resolve_links=True)
    with read(stream) as subscription:
        seen = take(subscription, 4)
        assert [one.link.stream_position for one in seen] == [0, 1, 2, 3]
        assert [one.stream_name for one in seen] == [f"{category}-1"] * 2 + [f"{category}-2"] * 2
        subscription.nack(seen[1], "park")
        for one in seen[2:]:
            subscription.ack(one)
        subscription.nack(seen[0], "retry")
        assert next(subscription).retry_count == 1
        until(stream, lambda found: found.parked_message_count == 1)
        client.replay_parked_events("workers", stream)
        again = next(subscription)
        assert (again.link.stream_position, again.id) == (1, seen[1].id)
        append(f"{category}-3", events(1))
        assert next(subscription).link.stream_position == 4
    # Links that somebody wrote; one leads nowhere, and nobody gets it.
    links = name("links")
    data = [f"0@{category}-1", f"7@{category}-1", f"1@{category}-1"]
    append(links, [event("$>", one.encode(), content_type="application/octet-stream") for one in data])
    create(links, resolve_links=True)
    with read(links) as subscription:
        assert [one.link.stream_position for one in take(subscription, 2)] == [0, 2]
    create(links, "plain")
    with read(links, "plain") as subscription:
        assert [one.type for one in take(subscription, 3)] == ["$>"] * 3


def check_strategies():
    for strategy in ["DispatchToSingle", "RoundRobin", "Pinned", "PinnedByCorrelation"]:
        category = "kind" + uuid4().hex
        create(f"$ce-{category}", resolve_links=True, consumer_strategy=strategy, from_end=True)
        seen = queue.Queue()

        def consume(number, subscription):
            try:
                for one in subscription:
                    seen.put((number, one))
                    subscription.ack(one)
            except CancelledError:
                pass

        consumers = [read(f"$ce-{category}") for _ in range(2)]
        for number, subscription in enumerate(consumers):
            threading.Thread(target=consume, args=[number, subscription], daemon=True).start()
        for number in range(24):
            metadata = json.dumps({"$correlationId": str(number % 5)}).encode()
            append(f"{category}-{number % 4}", [event(metadata=metadata)])
        given = [seen.get(timeout=20) for _ in range(24)]
        assert len({one.id for _, one in given}) == 24
        if strategy == "RoundRobin":
            assert {number for number, _ in given} == {0, 1}
        keys = {
            "Pinned": lambda one: one.stream_name,
            "PinnedByCorrelation": lambda one: json.loads(one.metadata)["$correlationId"],
        }.get(strategy)
        if keys:
            of = {}
            for number, one in given:
                of.setdefault(keys(one), set()).add(number)
            assert all(len(numbers) == 1 for numbers in of.values()), of
        ended.extend(consumers)
        client.delete_subscription("workers", f"$ce-{category}")


def check_hidden_events_are_left_out_and_a_stream_need_not_be_there_yet():
    stream = name()
    create(stream)
    with read(stream) as subscription:
        append(stream, events(3), NONE)
        for one in take(subscription, 3):
            subscription.ack(one)
    client.delete_stream(stream, current_version=ANY)
    append(stream, events(1))
    create(stream, "late")
    with read(stream, "late") as subscription:
        assert next(subscription).stream_position == 3


def check_count_and_age_of_the_metadata_leave_events_out():
    counted, aged, young = name(), name(), name()
    for stream, metadata in [(counted, {"$maxCount": 2}), (aged, {"$maxAge": 1}), (young, {"$maxAge": 3600})]:
        append(stream, events(3))
        client.set_stream_metadata(stream, metadata=metadata, current_version=ANY)
        create(stream)
    with read(counted) as subscription:
        assert numbers(take(subscription, 2)) == [1, 2]
        append(counted, events(1))
        assert next(subscription).stream_position == 3
    with read(young) as subscription:
        assert numbers(take(subscription, 3)) == [0, 1, 2]
    # They grow too old to be read.
    while is_shown(aged):
        pass
    with read(aged) as subscription:
        until(aged, lambda found: found.connections and found.status == "Live")
        client.set_stream_metadata(aged, metadata={"$maxAge": 3600}, current_version=ANY)
        append(aged, events(1))
        assert next(subscription).stream_position == 3


def is_shown(stream):
    try:
        return client.get_stream(stream)
    except NotFoundError:
        return False


def check_a_restart_of_the_subsystem_drops_consumers():
    stream = name()
    create(stream)
    subscription = read(stream)
    client.persistent_subscriptions._stub.RestartSubsystem(shared_pb2.Empty())
    raises(CancelledError, next, subscription)
    append(stream, events(1))
    with read(stream) as subscription:
        assert next(subscription).stream_position == 0


def check_bad_requests_are_refused():
    stub = client.persistent_subscriptions._stub

    def refused(call, *codes):
        error = raises(grpc.RpcError, call)
        assert error.code() in codes, error

    code = grpc.StatusCode
    refused(lambda: stub.Create(persistent_pb2.CreateReq()), code.INVALID_ARGUMENT)
    refused(lambda: stub.List(persistent_pb2.ListReq()), code.INVALID_ARGUMENT)
    refused(lambda: stub.GetInfo(persistent_pb2.GetInfoReq()), code.INVALID_ARGUMENT)
    stream = name()
    refused(
        lambda: client.persistent_subscriptions._stub.Create(
            persistent_pb2.CreateReq(
                options=persistent_pb2.CreateReq.Options(
                    group_name="workers",
                    stream=persistent_pb2.CreateReq.StreamOptions(
                        stream_identifier=shared_pb2.StreamIdentifier(stream_name=stream.encode()),
                        start=shared_pb2.Empty(),
                    ),
                    settings=persistent_pb2.CreateReq.Settings(consumer_strategy="Nobody"),
                )
            )
        ),
        code.INTERNAL,
    )
    create(stream)
    options = persistent_pb2.ReadReq.Options(
        group_name="workers", buffer_size=0,
        stream_identifier=shared_pb2.StreamIdentifier(stream_name=stream.encode()),
    )
    refused(lambda: next(stub.Read(iter([persistent_pb2.ReadReq(options=options)]))), code.INVALID_ARGUMENT)
    refused(lambda: next(stub.Read(iter([]))), code.INVALID_ARGUMENT)
    # A client that sends nothing more gets events all the same; ids that nobody has do no harm.
    options.buffer_size = 5
    ack = persistent_pb2.ReadReq.Ack(ids=[shared_pb2.UUID(string=str(uuid4())), shared_pb2.UUID(string="none")])
    call = stub.Read(iter([persistent_pb2.ReadReq(options=options), persistent_pb2.ReadReq(ack=ack)]))
    assert next(call).subscription_confirmation.subscription_id == f"{stream}::workers"
    append(stream, events(1))
    assert next(call).event.event.stream_revision == 0
    call.cancel()
    long = "x" * 400
    create(long + stream)
    append(long + stream, events(1))
    with read(long + stream) as subscription:
        subscription.nack(next(subscription), "park")
        until(long + stream, lambda found: found.parked_message_count == 1)
    assert len(client.get_stream(f"$persistentsubscription-{long + stream}::workers-parked")) == 1


if __name__ == "__main__":
    run(globals())
