"""What is far from both ends and has few neighbours, by kurrentdbclient."""

from clients import connect, run

client = connect()


def check_one_event_is_found():
    for backwards in [False, True]:
        found = client.read_all(filter_include=["wanted.*"], limit=1, backwards=backwards)
        assert [one.type for one in found] == ["wanted.Kind"]


def count_streams():
    found = client.get_stream("$streams")
    assert [one.data.decode() for one in found] == ["0@many-1", "0@one-1", "0@many-2", "0@one-2"]


def find_the_last_stream():
    for _ in range(10):
        found = client.get_stream("$streams", stream_position=3)
        assert [one.data.decode() for one in found] == ["0@one-2"]


if __name__ == "__main__":
    run(globals())
