"""Events that were recorded by clients of another protocol, by kurrentdbclient."""

from clients import connect, run

client = connect()


def check_events_of_others():
    sale = client.get_stream("sale-1")
    assert [(one.type, one.data, one.stream_position) for one in sale] == [
        ("shop.Sold", b'{"cents":5}', 0)
    ]
    everything = list(client.read_all(filter_exclude=()))
    # The store's own events stay closed; one without a stream has a name all the same.
    assert [one.stream_name for one in everything] == ["sale-1", "$streamless"]
    assert everything[1].stream_position == everything[1].commit_position - 1
    assert [one.stream_name for one in client.get_stream("$et-shop.Sold", resolve_links=True)] == [
        "sale-1"
    ]


if __name__ == "__main__":
    run(globals())
