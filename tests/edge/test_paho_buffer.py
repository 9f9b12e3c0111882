"""Reading ahead changes how often the kernel is asked, and nothing of what is read."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.paho_buffer import INSIDE, BufferedSocket, buffer_reads


class Line(SimpleNamespace):
    """A socket that gives what it was told to, one item a read."""

    def __init__(self, *gives: bytes | OSError) -> None:
        super().__init__(
            gives=list(gives), asked=0, options=[], send=lambda data: len(data), fileno=lambda: 42, close=list
        )

    def recv(self, size: int) -> bytes:
        self.asked += 1
        item = self.gives.pop(0)
        if isinstance(item, OSError):
            raise item
        assert len(item) <= size
        return bytes(item)

    def setsockopt(self, *option: int) -> None:
        self.options.append(option)


@pytest.fixture
def ends() -> Iterator[tuple[BufferedSocket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield BufferedSocket(near), far


def test_many_small_reads_are_one_of_the_kernels() -> None:
    line = Line(b"abcdef", BlockingIOError())
    sock = BufferedSocket(line)
    assert [sock.recv(1), sock.recv(2), sock.recv(9)] == [b"a", b"bc", b"def"]
    assert line.asked == 1
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    assert line.asked == 2


def test_what_is_read_ahead_is_pending(ends: tuple[BufferedSocket, socket.socket]) -> None:
    sock, far = ends
    assert sock.pending() == 0
    far.sendall(b"abc")
    assert sock.recv(1) == b"a"
    # aiomqtt reads on for as long as it is not 0; the kernel has nothing left that would wake it.
    assert sock.pending() == 2
    assert sock.recv(5) == b"bc"
    assert sock.pending() == 0


def test_a_tls_sockets_own_buffer_counts_too() -> None:
    line = Line(b"ab")
    line.pending = lambda: 7
    sock = BufferedSocket(line)
    sock.recv(1)
    assert sock.pending() == 1 + 7


@pytest.mark.parametrize("error", [ConnectionResetError(), ssl.SSLWantReadError(), BlockingIOError()])
def test_an_error_met_while_reading_ahead_is_raised_once_at_its_place(error: OSError) -> None:
    sock = BufferedSocket(Line(b"ab", error, b"c"))
    assert sock.recv(2) == b"ab"
    sock.fill()
    with pytest.raises(type(error)) as raised:
        sock.recv(1)
    assert raised.value is error
    assert sock.recv(1) == b"c"


def test_the_end_of_the_stream_stays_the_end(ends: tuple[BufferedSocket, socket.socket]) -> None:
    sock, far = ends
    far.sendall(b"a")
    far.close()
    assert [sock.recv(4), sock.recv(4), sock.recv(4)] == [b"a", b"", b""]


def test_every_read_is_acknowledged_at_once_and_nothing_else() -> None:
    line = Line(b"ab", BlockingIOError())
    sock = BufferedSocket(line)
    assert line.options == [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    sock.recv(1)
    sock.recv(1)
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    assert line.options[1:] == [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)]


def test_a_socket_that_knows_no_such_option_is_read_all_the_same(ends: tuple[BufferedSocket, socket.socket]) -> None:
    sock, far = ends  # of the Unix family
    far.sendall(b"a")
    assert sock.recv(1) == b"a"


def test_everything_else_is_the_sockets() -> None:
    sock = BufferedSocket(Line())
    assert sock.fileno() == 42
    assert sock.send(b"abc") == 3
    with pytest.raises(AttributeError):
        _ = sock.nothing_of_the_kind


def test_the_paho_that_is_installed_is_as_expected() -> None:
    # A newer one that is not costs a tenth of the speed, and nothing else.
    client = paho.Client(CallbackAPIVersion.VERSION2)
    assert buffer_reads(client)
    with socket.create_server(("127.0.0.1", 0)) as server:
        client.connect_async("127.0.0.1", server.getsockname()[1])
        client.reconnect()
        assert isinstance(client.socket(), BufferedSocket)
        client.disconnect()


@pytest.mark.parametrize("name", INSIDE)
def test_another_inside_is_left_alone(name: str) -> None:
    make: Callable[[], object] = object
    client = SimpleNamespace(_create_socket=make, _sock=None)
    delattr(client, name)
    assert not buffer_reads(client)
    assert getattr(client, "_create_socket", make) is make


def test_paho_reads_the_same_however_the_stream_is_cut() -> None:
    """Two messages and a ping's answer, cut in two at every place."""
    stream = b"\x30\x06\x00\x01tabc" + b"\xd0\x00" + b"\x30\x04\x00\x01ud"
    for cut in range(len(stream) + 1):
        parts = [part for part in (stream[:cut], stream[cut:]) if part]
        gives: list[bytes | OSError] = [item for part in parts for item in (part, BlockingIOError())]
        client, line = paho.Client(CallbackAPIVersion.VERSION2), Line(*gives)
        client._sock = BufferedSocket(line)
        heard: list[tuple[str, bytes]] = []
        client.on_message = lambda _client, _data, message, heard=heard: heard.append((message.topic, message.payload))
        while line.gives or client._sock.pending():
            client.loop_read()
        assert heard == [("t", b"abc"), ("u", b"d")], cut


def test_a_flood_does_not_last_a_callback_and_nothing_of_it_stays_in_the_buffer() -> None:
    """Messages of 17 bytes without end: a buffer never ends where one does."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    heard: list[int] = []
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client._sock = BufferedSocket(near)
    client.on_message = lambda _client, _data, message: heard.append(int(message.payload))
    flood = b"".join(b"\x30\x0f\x00\x01t%012d" % number for number in range(20_000))
    sent = callbacks = most = 0
    with near, far:
        while len(heard) < 20_000:
            before = len(heard)
            # As aiomqtt does it, and the kernel is never empty meanwhile.
            while True:
                with contextlib.suppress(BlockingIOError):
                    sent += far.send(flood[sent : sent + 100_000])
                client.loop_read()
                if client._sock.pending() == 0:
                    break
            most = max(most, len(heard) - before)
            callbacks += 1
            assert callbacks < 2000
        # Nothing is left that no readable socket would announce.
        assert client._sock.at == len(client._sock.data)
    assert heard == list(range(20_000))
    assert most < 600


def test_what_tls_has_decrypted_is_read_in_the_same_callback() -> None:
    # The kernel has nothing of it any more, and would wake nobody.
    line = Line(b"\x30\x06\x00\x01tab", b"c")
    behind = [1]
    line.pending = lambda: behind[0] if line.gives else 0
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client._sock = BufferedSocket(line)
    heard: list[bytes] = []
    client.on_message = lambda _client, _data, message: heard.append(bytes(message.payload))
    client._sock._reading_on = True
    client.loop_read()
    while client._sock.pending():
        client.loop_read()
    assert heard == [b"abc"]
