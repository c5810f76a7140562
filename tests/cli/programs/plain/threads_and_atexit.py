import atexit
import threading
import time

atexit.register(print, "at exit")
printed = threading.Event()
threading.Thread(target=lambda: (printed.wait(), time.sleep(0.1), print("thread"))).start()
print("main")
printed.set()
