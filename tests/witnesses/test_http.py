"""The client over HTTP against servers that are slow, broken, or not a witness at all."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from ha_heartbeat.witnesses import (
    MAX_VALUE_BYTES,
    ConflictError,
    UnknownOutcomeError,
    WitnessError,
    WitnessUrlError,
)
from ha_heartbeat.witnesses.http import HttpRegister, read_target
from tests.witnesses.rig import HOST, Step, answer, closing, free_port, script

LIMIT_S = 5.0
SHORT_S = 0.4
GOOD = answer("200 OK", 'ETag: "a"', body=b"value")


def trickle(client: socket.socket, over: threading.Event) -> None:
    """One header byte now and then, for ever."""
    client.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not over.wait(0.05):
        client.sendall(b"z")


def trickle_body(client: socket.socket, over: threading.Event) -> None:
    client.sendall(b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 10000\r\n\r\n')
    while not over.wait(0.05):
        client.sendall(b"z")


def hang(_client: socket.socket, over: threading.Event) -> None:
    over.wait()


BAD_READS: dict[str, tuple[Step, str]] = {
    "weak": (answer("200 OK", 'ETag: W/"a"', body=b"v"), "weak"),
    "no tag": (answer("200 OK", body=b"v"), "without an ETag"),
    "two tags": (answer("200 OK", 'ETag: "a"', 'ETag: "b"', body=b"v"), "one strong ETag"),
    "unquoted": (answer("200 OK", "ETag: a", body=b"v"), "one strong ETag"),
    "long tag": (answer("200 OK", f'ETag: "{"a" * 300}"', body=b"v"), "one strong ETag"),
    "empty": (answer("200 OK", 'ETag: "a"'), "empty record"),
    "garbage": (b"\x00\x01 nonsense\r\n\r\n", "no HTTP answer"),
    "endless line": (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, "no HTTP answer"),
    "no length": (b'HTTP/1.1 200 OK\r\nETag: "a"\r\n\r\nval', "without a length"),
    "too long": (
        answer("200 OK", 'ETag: "a"', body=b"v" * (MAX_VALUE_BYTES + 1)),
        "longer than",
    ),
    "too long, in chunks": (
        answer("200 OK", 'ETag: "a"', "Transfer-Encoding: chunked")
        + (b"2000\r\n" + b"v" * 0x2000 + b"\r\n") * 3
        + b"0\r\n\r\n",
        "longer than",
    ),
    "redirect": (answer("302 Found", "Location: http://else.example/"), "302 Found; redirects"),
    "password": (answer("401 Unauthorized"), "user and the password"),
    "error": (answer("500 Internal Server Error"), "500 Internal Server Error"),
    "teapot": (answer("418 I'm a teapot"), "418"),
    "no content": (b'HTTP/1.1 204 No Content\r\nETag: "a"\r\n\r\n', "204"),
    "not modified": (b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', "304"),
    "closed": (b"", "without an answer"),
}


@pytest.mark.parametrize("name", BAD_READS)
def test_what_cannot_be_read_right_is_never_an_empty_record(name: str) -> None:
    step, sentence = BAD_READS[name]

    def then_close(client: socket.socket, _over: threading.Event) -> None:
        assert isinstance(step, bytes)
        client.sendall(step)
        client.shutdown(socket.SHUT_WR)

    with script(then_close) as server, closing(HttpRegister(server.url, LIMIT_S)) as register:
        with pytest.raises(WitnessError, match=sentence) as caught:
            register.read()
        assert server.url in str(caught.value)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_truncated_body_is_an_error(chunked: bool) -> None:
    body = (
        answer("200 OK", 'ETag: "a"', "Transfer-Encoding: chunked") + b"5\r\nval"
        if chunked
        else answer("200 OK", 'ETag: "a"', "Content-Length: 5", body=b"val")
    )

    def cut(client: socket.socket, _over: threading.Event) -> None:
        client.sendall(body)
        client.shutdown(socket.SHUT_WR)

    with script(cut) as server, closing(HttpRegister(server.url, LIMIT_S)) as register:  # noqa: SIM117
        with pytest.raises(WitnessError, match="cut off"):
            register.read()


@pytest.mark.parametrize("step", [trickle, trickle_body, hang])
def test_the_time_limit_covers_the_whole_call(step: Step) -> None:
    with script(step) as server, closing(HttpRegister(server.url, SHORT_S)) as register:
        began_s = time.monotonic()
        with pytest.raises(WitnessError, match=r"within 0\.4 s"):
            register.read()
        assert time.monotonic() - began_s < SHORT_S + 2.0


@pytest.mark.parametrize("step", [trickle, hang])
def test_a_swap_without_an_answer_has_an_unknown_outcome(step: Step) -> None:
    with script(step) as server, closing(HttpRegister(server.url, SHORT_S)) as register:
        with pytest.raises(UnknownOutcomeError, match="after a PUT was sent"):
            register.swap(None, b"v")
        assert len(server.requests) == 1


PUT_ANSWERS = {
    "412 Precondition Failed": ConflictError,
    "400 Bad Request": WitnessError,
    "403 Forbidden": WitnessError,
    "404 Not Found": WitnessError,
    "405 Method Not Allowed": WitnessError,
    "413 Content Too Large": WitnessError,
    "428 Precondition Required": WitnessError,
    "307 Temporary Redirect": WitnessError,
    "202 Accepted": UnknownOutcomeError,
    "408 Request Timeout": UnknownOutcomeError,
    "500 Internal Server Error": UnknownOutcomeError,
    "502 Bad Gateway": UnknownOutcomeError,
    "507 Insufficient Storage": UnknownOutcomeError,
}


@pytest.mark.parametrize("status", PUT_ANSWERS)
def test_what_each_status_means_for_a_swap(status: str) -> None:
    with script(answer(status)) as server, closing(HttpRegister(server.url, LIMIT_S)) as register:
        with pytest.raises(PUT_ANSWERS[status]) as caught:
            register.swap('"a"', b"v")
        assert type(caught.value) is PUT_ANSWERS[status]
        if not isinstance(caught.value, ConflictError):
            assert status in str(caught.value)
        assert len(server.requests) == 1
        assert b'\r\nIf-Match: "a"\r\n' in server.requests[0]


@pytest.mark.parametrize("tag", ['W/"b"', "b"])
def test_a_swap_answered_with_a_bad_tag_has_an_unknown_outcome(tag: str) -> None:
    with (
        script(answer("200 OK", f"ETag: {tag}")) as server,
        closing(HttpRegister(server.url, LIMIT_S)) as register,
        pytest.raises(UnknownOutcomeError, match="strong ETag"),
    ):
        register.swap('"a"', b"v")


def test_a_put_is_never_sent_twice() -> None:
    def drop(client: socket.socket, _over: threading.Event) -> None:
        client.shutdown(socket.SHUT_RDWR)

    with script(GOOD, drop, GOOD) as server, closing(HttpRegister(server.url, LIMIT_S)) as register:
        register.read()
        with pytest.raises(UnknownOutcomeError):
            register.swap('"a"', b"v")
        assert [request[:3] for request in server.requests] == [b"GET", b"PUT"]


def test_a_get_is_sent_again_when_the_kept_connection_was_closed_under_it() -> None:
    def drop(client: socket.socket, _over: threading.Event) -> None:
        client.shutdown(socket.SHUT_RDWR)

    with script(GOOD, drop, GOOD) as server, closing(HttpRegister(server.url, LIMIT_S)) as register:
        assert register.read() == register.read() == (b"value", '"a"')
        assert (len(server.requests), server.connections) == (3, 2)


def test_a_get_on_a_fresh_connection_is_not_sent_again() -> None:
    with script(b"", GOOD) as server, closing(HttpRegister(server.url, LIMIT_S)) as register:
        with pytest.raises(WitnessError, match="without an answer"):
            register.read()
        assert len(server.requests) == 1


def test_a_closed_connection_is_seen_before_a_put_is_sent() -> None:
    closed = threading.Event()

    def last(client: socket.socket, _over: threading.Event) -> None:
        client.sendall(GOOD)
        client.shutdown(socket.SHUT_WR)
        closed.set()

    put = answer("204 No Content", 'ETag: "b"')
    with script(last, put) as server, closing(HttpRegister(server.url, LIMIT_S)) as register:
        register.read()
        assert closed.wait(LIMIT_S)
        assert register.swap('"a"', b"v") == '"b"'
        assert server.connections == 2


def test_one_connection_serves_many_calls() -> None:
    with script(GOOD, GOOD, GOOD) as server, closing(HttpRegister(server.url, LIMIT_S)) as register:
        for _ in range(3):
            register.read()
        assert server.connections == 1


def test_the_version_that_was_not_told_is_read_with_the_value() -> None:
    mine = answer("200 OK", 'ETag: "b"', body=b"mine")
    with (
        script(answer("200 OK"), mine) as server,
        closing(HttpRegister(server.url, LIMIT_S)) as register,
    ):
        assert register.swap('"a"', b"mine") == '"b"'


def test_a_version_that_belongs_to_another_value_is_not_taken() -> None:
    with (
        script(answer("200 OK"), GOOD) as server,
        closing(HttpRegister(server.url, LIMIT_S)) as register,
        pytest.raises(UnknownOutcomeError, match="another record already"),
    ):
        register.swap('"a"', b"mine")


def test_a_missing_record_is_none() -> None:
    with (
        script(answer("404 Not Found", body=b"<html>")) as server,
        closing(HttpRegister(server.url, LIMIT_S)) as register,
    ):
        assert register.read() is None


def test_the_password_is_sent_and_never_shown() -> None:
    with script(answer("403 Forbidden")) as server:
        url = server.url.replace("http://", "http://me:se%40cret@")
        with (
            closing(HttpRegister(url, LIMIT_S)) as register,
            pytest.raises(WitnessError) as caught,
        ):
            register.read()
        assert b"\r\nAuthorization: Basic bWU6c2VAY3JldA==\r\n" in server.requests[0]
    assert "cret" not in str(caught.value)
    assert "me:" not in str(caught.value)


def test_nobody_listens() -> None:
    with closing(HttpRegister(f"http://{HOST}:{free_port()}/", LIMIT_S)) as register:
        with pytest.raises(WitnessError, match="cannot be asked"):
            register.read()
        with pytest.raises(WitnessError, match="cannot be asked") as caught:
            register.swap(None, b"v")
        assert not isinstance(caught.value, UnknownOutcomeError)


def test_a_resolver_that_hangs_does_not_hold_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def stuck(*_args: object, **_more: object) -> list[object]:
        released.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    with closing(HttpRegister("http://stuck.example/", 0.2)) as register:
        try:
            for _ in range(2):
                with pytest.raises(WitnessError, match="not resolved"):
                    register.read()
        finally:
            released.set()


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{HOST}:{free_port()}")
    with script(GOOD) as server, closing(HttpRegister(server.url, LIMIT_S)) as register:
        assert register.read() == (b"value", '"a"')


@pytest.mark.parametrize("version", ["a", 'W/"a"', '"a"\r\nX: y', '"' + "a" * 300 + '"', ""])
def test_a_version_of_another_kind_is_refused_before_anything_is_sent(version: str) -> None:
    with closing(HttpRegister(f"http://{HOST}:{free_port()}/", LIMIT_S)) as register:  # noqa: SIM117
        with pytest.raises(ValueError, match="no version"):
            register.swap(version, b"v")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///path",
        "http://m3:0/",
        "http://m3:port/",
        "http://m3:99999/",
        "http://[::1/",
        "http://m3/a b",
        "http://m3/ü",
        "http://m3/#part",
    ],
)
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(WitnessUrlError, match=r"^the witness "):
        read_target(url)


def test_what_a_url_says() -> None:
    target = read_target("https://u:p@[::1]/x%20y?z=1")
    assert target[:4] == (True, "::1", 443, "/x%20y?z=1")
    assert target.shown == "https://[::1]/x%20y?z=1"
