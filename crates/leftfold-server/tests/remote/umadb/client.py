"""Calls of the client of UmaDB, as its users make them, against the server at an address."""

import sys
import uuid

from umadb import (
    AppendCondition,
    AuthenticationError,
    Client,
    Event,
    IntegrityError,
    Query,
    QueryItem,
    ServingStatus,
    TrackingInfo,
    TransportError,
)


def refuses(error, call):
    try:
        call()
    except error:
        return
    raise AssertionError(f"{error.__name__} was expected")


def calls(url):
    client = Client(url, batch_size=2)
    assert client.check_health() == ServingStatus.SERVING
    assert client.check_health("umadb.v1.DCB") == ServingStatus.SERVING
    assert client.head() is None
    assert client.read().collect_with_head() == ([], None)

    placed = Event(
        "OrderPlaced", b"\x00data", ["order:7", "customer:ada"], uuid.uuid4(), {"by": "ada", "at": ""}
    )
    order = Query([QueryItem(tags=["order:7"])])
    once = AppendCondition(order)
    assert client.append([placed], once) == 1
    # The same request again, and another one.
    assert client.append([placed], once) == 1
    refuses(IntegrityError, lambda: client.append([Event("OrderPlaced", b"", ["order:7"])], once))
    paid = [Event("Paid", b"", ["order:7"]), Event("", b"", [""])]
    assert client.append(paid, AppendCondition(order, after=1)) == 3

    events, head = client.read().collect_with_head()
    assert [event.position for event in events] == [1, 2, 3] and head == 3
    first = events[0].event
    assert (first.event_type, first.data, first.tags, first.uuid, first.metadata) == (
        "OrderPlaced",
        b"\x00data",
        ["order:7", "customer:ada"],
        placed.uuid,
        {"by": "ada", "at": ""},
    )
    assert events[1].event.uuid is None
    types = Query([QueryItem(types=["Paid", "Shipped"]), QueryItem(types=[""])])
    assert [event.position for event in client.read(types, backwards=True)] == [3, 2]
    limited = client.read(start=2, limit=1)
    assert [event.position for event in limited] == [2] and limited.head() == 2

    assert client.get_tracking_info("upstream") is None
    assert client.append([Event("Copied", b"")], tracking_info=TrackingInfo("upstream", 9)) == 4
    again = TrackingInfo("upstream", 9)
    refuses(IntegrityError, lambda: client.append([Event("Copied", b"")], tracking_info=again))
    assert client.get_tracking_info("upstream") == 9
    assert client.head() == 4

    live = client.subscribe(after=2)
    seen = [next(live), next(live)]
    tracked = seen[1].tracking_info
    assert (tracked.source, tracked.position) == ("upstream", 9)
    client.append([Event("Shipped", b"", ["order:7"])])
    seen.append(next(live))
    assert [event.position for event in seen] == [3, 4, 5]
    live.cancel()


def key(url, authority, token):
    for wrong in [None, token[1:]]:
        client = Client(url, ca_path=authority, api_key=wrong)
        refuses(AuthenticationError, client.head)
    client = Client(url, ca_path=authority, api_key=token)
    assert client.append([Event("OrderPlaced", b"")]) == 1
    assert [event.position for event in client.read()] == [1]


def refused(url, authority, token):
    refuses(TransportError, lambda: Client(url, ca_path=authority, api_key=token).head())


def guesses(url, authority, token):
    client = Client(url, ca_path=authority, api_key=token)
    client.head()
    for number in range(20):
        guess = Client(url, ca_path=authority, api_key=f"leftfold_{number:064}")
        refuses(AuthenticationError, guess.head)
    client.head()


{"calls": calls, "key": key, "refused": refused, "guesses": guesses}[sys.argv[1]](*sys.argv[2:])
