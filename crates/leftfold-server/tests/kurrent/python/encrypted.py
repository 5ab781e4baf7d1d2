"""An encrypted connection with users, by kurrentdbclient."""

import sys

from clients import ANY, EXISTS, NONE, address, events, name, raises, run
from kurrentdbclient import KurrentDBClient
from kurrentdbclient.exceptions import (
    AccessDeniedError,
    DiscoveryFailedError,
    ServiceUnavailableError,
    SSLError,
    UnauthenticatedError,
    WrongCurrentVersionError,
)

with open(sys.argv[3], "rb") as file:
    AUTHORITY = file.read()


def connect(user, roots=AUTHORITY):
    return KurrentDBClient(f"kurrentdb://{user}@{address()}", root_certificates=roots)


def check_users():
    ada, rae, stream = connect("ada:secret"), connect("rae:r"), name()
    ada.append_to_stream(stream, current_version=ANY, events=events(2))
    assert len(rae.get_stream(stream)) == 2
    raises(AccessDeniedError, rae.append_to_stream, stream, current_version=ANY, events=events(1))
    raises(AccessDeniedError, rae.delete_stream, stream, current_version=ANY)
    assert len(ada.get_stream(stream)) == 2
    # wil appends everywhere, and learns nothing of what is not public.
    wil, public = connect("wil:w"), name("public")
    for expected in [0, 7, NONE, EXISTS]:
        raises(AccessDeniedError, wil.append_to_stream, stream, current_version=expected, events=events(1))
        raises(AccessDeniedError, wil.delete_stream, stream, current_version=expected)
    wil.append_to_stream(stream, current_version=ANY, events=events(1))
    wil.append_to_stream(public, current_version=NONE, events=events(1))
    raises(WrongCurrentVersionError, wil.append_to_stream, public, current_version=7, events=events(1))
    for stranger in ["ada:wrong", "eve:x"]:
        raises(UnauthenticatedError, lambda: connect(stranger).get_stream(stream))
    raises(SSLError, lambda: connect("ada:secret", roots=b"no certificate").get_stream(stream))


def guesses_passwords():
    ada, stream = connect("ada:secret"), name()
    ada.append_to_stream(stream, current_version=ANY, events=events(1))
    for number in range(9):
        guess = lambda: connect(f"ada:{number}").get_stream(stream)
        raises((UnauthenticatedError, ServiceUnavailableError), guess)
    ada.append_to_stream(stream, current_version=0, events=events(1))
    assert len(connect("rae:r").get_stream(stream)) == 2


def refuses_the_server():
    raises((SSLError, ServiceUnavailableError, DiscoveryFailedError), lambda: connect("ada:secret").get_stream(name()))


def append_with_certificate():
    shown = "UserCertFile={}&UserKeyFile={}".format(*sys.argv[4:6])
    client = KurrentDBClient(f"kurrentdb://ada:secret@{address()}?{shown}", root_certificates=AUTHORITY)
    client.append_to_stream(name(), current_version=NONE, events=events(1))


def shows_a_certificate():
    append_with_certificate()


def shows_a_wrong_certificate():
    raises((SSLError, ServiceUnavailableError, DiscoveryFailedError), append_with_certificate)


if __name__ == "__main__":
    run(globals())
