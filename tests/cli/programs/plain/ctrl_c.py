import os
import signal

try:
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        sum(range(100))
except KeyboardInterrupt:
    print("caught")
os.kill(os.getpid(), signal.SIGINT)
while True:
    sum(range(100))
