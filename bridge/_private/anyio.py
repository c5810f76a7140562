"""The private names of anyio: tasks, cancel scopes, worker threads and portals of its backend for asyncio."""

from __future__ import annotations

from .rows import GEVENT, PORTALS, REPORTS, SCOPES, TESTS, Name

_BACKEND = "anyio._backends._asyncio"
_SCOPE = f"{_BACKEND}:CancelScope"
_PORTAL = "anyio.from_thread:BlockingPortal"
_ALL, _LATE = "anyio 4.0 to 4.16", "anyio 4.9 to 4.16"

NAMES = (
    Name(_BACKEND, "WorkerThread", "reads", SCOPES, "a worker of anyio's is told by its class", 0, _ALL),
    Name(f"{_BACKEND}:WorkerThread", "loop", "reads", SCOPES, "the loop that a worker serves", 0, _ALL),
    Name(_BACKEND, "threadlocals", "reads", SCOPES, "the cancel scope that a worker works in", 0, _ALL),
    Name(_BACKEND, "_task_states", "sets", SCOPES, "a task of ours stands in the scope of its caller", 0, _ALL),
    Name(_BACKEND, "TaskState", "calls", SCOPES, "the state of that task", 0, _ALL),
    Name(f"{_BACKEND}:TaskState", "__init__", "calls", SCOPES, "the state of that task", 3, _ALL),
    Name(_SCOPE, "_tasks", "sets", SCOPES, "the scope cancels that task", 0, _ALL),
    Name(_SCOPE, "_parent_scope", "reads", SCOPES, "an outer scope may be cancelled already", 0, _ALL),
    Name(_SCOPE, "_active", "reads", SCOPES, "the scope's host may have left it", 0, _ALL),
    Name(_SCOPE, "_deliver_cancellation", "calls", SCOPES, "a scope that had no task begins to cancel", 2, _ALL),
    Name(_PORTAL, "_spawn_task_from_thread", "overrides", PORTALS, "the Future of a call is made one of ours", 6, _ALL),
    Name(_PORTAL, "_task_group", "reads", PORTALS, "a call under gevent starts in the portal's group", 0, _ALL),
    Name(_PORTAL, "_call_func", "calls", PORTALS, "a call under gevent is run by the portal", 5, _ALL),
    Name(f"{_BACKEND}:WorkerThread", "stop", "calls", GEVENT, "a worker ends with its loop's main task", 2, _LATE),
    Name(f"{_BACKEND}:WorkerThread", "queue", "sets", GEVENT, "a queue for threads is its queue", 0, _LATE),
    Name(_BACKEND, "find_root_task", "calls", GEVENT, "the task that a worker's life is tied to", 0, _LATE),
    Name(_BACKEND, "_threadpool_idle_workers", "sets", GEVENT, "the list from which workers are taken", 0, _LATE),
    Name(_BACKEND, "_threadpool_workers", "sets", GEVENT, "the set of a loop's workers", 0, _LATE),
    Name(f"{_BACKEND}:TaskGroup", "_tasks", "reads", REPORTS, "the tasks that a group waits for", 0, _ALL),
    Name(_BACKEND, "Runner", "sets", TESTS, "its plugin runs the tests on the loop of the others", 0, _LATE),
    Name(f"{_BACKEND}:TestRunner", "_run_tests_and_fixtures", "reads", TESTS, "a task that is no leftover", 0, _LATE),
)
