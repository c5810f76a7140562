"""Prints in which order Python ends: what threading registers, threads, what atexit registers."""

import atexit
import threading


def work():
    ended.wait()
    print("joined")


ended = threading.Event()
threading._register_atexit(lambda: (print("begun"), ended.set()))
threading.Thread(target=work).start()
atexit.register(print, "handlers")
