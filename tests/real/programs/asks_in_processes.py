"""Ask the client of this process, and those of child processes: ``asks_in_processes.py spawn pool``."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from kept_client import ask


def ask_in_threads(number: int) -> int:
    with ThreadPoolExecutor(3) as threads:
        return sum(threads.map(ask, [number] * 3))


def main(method: str, kind: str) -> None:
    assert ask_in_threads(1) == 3  # so the parent has a client when it forks
    context = multiprocessing.get_context(method)
    if kind == "pool":
        with ProcessPoolExecutor(2, context) as pool:
            assert sum(pool.map(ask_in_threads, range(6))) == 45
        return
    processes = [context.Process(target=ask_in_threads, args=(number,)) for number in range(2)]  # type: ignore[attr-defined]
    for each in processes:
        each.start()
    for each in processes:
        each.join()
        assert each.exitcode == 0


if __name__ == "__main__":
    main(*sys.argv[1:])
