"""What the standard library lacks: native threads under gevent, and waits that signals interrupt.

Interrupts. The other rooms refer to this section. CPython runs a signal handler in the main thread, between any two
lines: where a function is entered, where a call returns, and where a loop goes round. The handler may raise, as that of
Ctrl-C does, and it may block or call ``block_on``. ``PyThreadState_SetAsyncExc`` raises in any thread, at the same
places. No handler runs inside a call of C, unless that waits or calls Python. So two steps that must not be separated
are either two lines without a call between them, or one call of C: ``list(map(...))``, ``list.extend(map(...))``.
"""
