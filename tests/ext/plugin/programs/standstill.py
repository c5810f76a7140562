"""Sync tests with a client that blocks, of a server on the loop of the tests."""

import asyncio
import socket

import pytest

from bridge import block_on


@pytest.fixture(scope="module")
async def address():
    async def answer(reader, writer):
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()


def asked(address):
    with socket.create_connection(address, timeout=0.5) as client:
        return client.recv(5)


def test_blocks_the_loop(address):
    assert asked(address) == b"hello"


@pytest.mark.bridge(in_thread=True)
def test_in_a_thread(address):
    assert asked(address) == b"hello"


def test_fails_for_another_reason(address):
    raise ValueError(address)


def test_runs_out_of_time_itself(address):
    block_on(asyncio.sleep(60), timeout=0.01)
