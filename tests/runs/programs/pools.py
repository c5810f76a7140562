"""Children of multiprocessing call, and so does their parent. Argument: the start method."""

import asyncio
import concurrent.futures
import multiprocessing
import sys

import bridge  # first: the process has its reactor

# isort: split
from twisted.internet import reactor
from twisted.internet.task import deferLater


def work(number):
    assert bridge.block_on(asyncio.sleep(0.001, number)) == number
    return bridge.block_on(lambda: deferLater(reactor, 0.001, lambda: 2 * number))


def ends(queue):
    bridge.submit(asyncio.sleep(1000))
    bridge.block_on(lambda: reactor.addSystemEventTrigger("before", "shutdown", queue.put, "ended"))


if __name__ == "__main__":
    method = sys.argv[1]
    assert bridge.block_on(asyncio.sleep(0.001, "parent")) == "parent"
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        assert pool.map(work, range(20)) == [2 * number for number in range(20)]
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
        assert list(executor.map(work, range(20))) == [2 * number for number in range(20)]

    async def in_the_loop():
        loop = asyncio.get_running_loop()
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
            return await asyncio.gather(*(loop.run_in_executor(executor, work, number) for number in range(5)))

    assert bridge.block_on(in_the_loop()) == [0, 2, 4, 6, 8]
    queue = context.SimpleQueue()
    process = context.Process(target=ends, args=(queue,))
    process.start()
    process.join(30)
    assert process.exitcode == 0, process.exitcode
    assert queue.get() == "ended"
    assert work(3) == 6
    print("done")
