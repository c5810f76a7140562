"""The page by Flask, for gunicorn: ``flask_web:with_block_on()`` and ``flask_web:with_asyncio_run()``."""

from __future__ import annotations

import asyncio
import os

from flask import Flask
from store import PORT, connect, page

import bridge

port = int(os.environ[PORT])


def with_block_on() -> Flask:
    application = Flask(__name__)
    store = bridge.block_on(connect(port))  # in the worker; all threads share it

    @application.get("/")
    def show() -> bytes:
        return page(bridge.block_on(store.get()))

    return application


def with_asyncio_run() -> Flask:
    application = Flask(__name__)

    async def ask() -> bytes:
        store = await connect(port)  # a connection is of one loop, and this loop is of one request
        try:
            return await store.get()
        finally:
            store.close()

    @application.get("/")
    def show() -> bytes:
        return page(asyncio.run(ask()))

    return application
