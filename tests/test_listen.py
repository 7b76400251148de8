"""host:port → bound sockets."""

import errno
import os
import socket

import pytest

from miniasgi.listen import AddressError, bind_advice, open_sockets, reuse_address, url_of


@pytest.fixture
def opened():
    sockets = []

    def open_(host, port=0):
        made = open_sockets(host, port)
        sockets.extend(made)
        return made

    yield open_
    for each in sockets:
        each.close()


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_bound_socket_refuses_until_it_listens(opened):
    [sock] = opened("127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(sock.getsockname())


def test_a_name_with_two_addresses_has_them_on_one_port(opened, monkeypatch):
    addresses = [("127.0.0.1", 0), ("127.0.0.2", 0)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses * 2]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **more: found)
    sockets = opened("twice")
    assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1", "127.0.0.2"]
    assert len({sock.getsockname()[1] for sock in sockets}) == 1


def test_a_port_in_use_says_so_and_leaves_nothing_open(opened, monkeypatch):
    [sock] = opened("127.0.0.1")
    sock.listen()
    port = sock.getsockname()[1]
    with pytest.raises(AddressError, match=f"port {port} of 127.0.0.1 is in use; .* another port"):
        open_sockets("127.0.0.1", port)
    first = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port))
    second = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **more: [first, second])
    with pytest.raises(AddressError, match=r"127\.0\.0\.1 is in use"):
        open_sockets("both", port)  # a socket left open would be a ResourceWarning, which is an error here


def test_a_name_with_an_address_that_this_machine_has_not_gets_the_other(opened, monkeypatch):
    addresses = [("203.0.113.1", 0), ("127.0.0.1", 0)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **more: found)
    [sock] = opened("localhost")
    assert sock.getsockname()[0] == "127.0.0.1"


def test_an_address_is_taken_before_it_listens(opened):
    [sock] = opened("127.0.0.1")
    with pytest.raises(AddressError, match="in use"):
        open_sockets("127.0.0.1", sock.getsockname()[1])


def test_an_address_with_connections_of_the_server_before_is_to_be_had(opened):
    [sock] = opened("127.0.0.1")
    reuse_address(sock)
    sock.listen()
    sock.setblocking(True)
    address = sock.getsockname()
    with socket.create_connection(address) as client:
        accepted, _ = sock.accept()
        accepted.close()  # the side that closes first is the one in TIME_WAIT
        assert client.recv(1) == b""
    sock.close()
    assert opened(*address)


def test_an_address_of_another_machine_says_so():
    with pytest.raises(AddressError, match=r"203\.0\.113\.1 is not an address of this machine"):
        open_sockets("203.0.113.1", 0)


@pytest.mark.parametrize("name", ["no such host", "a..b", "a" * 64 + ".example"])
def test_a_name_that_nobody_knows_says_so(name):
    with pytest.raises(AddressError, match=f"'{name}' is no address"):
        open_sockets(name, 0)


def test_a_port_that_is_not_permitted_says_so():
    text = bind_advice(OSError(errno.EACCES, "denied"), "127.0.0.1", 80)
    assert text == "port 80 is not permitted to this user; take one from 1024 on with port"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_port_that_is_not_permitted_is_found_out():
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        permitted = int(file.read()) <= 1  # to everybody, as container engines set it
    os.seteuid(65534)
    try:
        found = [sock.close() for sock in open_sockets("127.0.0.1", 1)]
    except AddressError as error:
        found = str(error)
    finally:
        os.seteuid(0)
    assert found == [None] if permitted else "port 1 is not permitted" in found


def test_urls_lead_to_the_server(opened):
    [sock] = opened("0.0.0.0")
    assert url_of(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"
    if has_ipv6():
        [sock] = opened("::1")
        assert url_of(sock, "https") == f"https://[::1]:{sock.getsockname()[1]}"
