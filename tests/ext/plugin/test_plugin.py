"""The pytest plugin, beside pytest-asyncio, anyio's plugin, pytest-twisted and trial.

The session ``plugin`` of nox runs these: they need the entry point of the plugin, pytest-asyncio and pytest-twisted.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from paths import ROOT

pytest_plugins = ["pytester"]
pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

PROGRAMS = Path(__file__).parent / "programs"
LIMIT = 100  # seconds for a run of pytest
ON = """\
bridge = true
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""
OFF = ON.replace("bridge = true\n", "")


@pytest.fixture(autouse=True)
def wide_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def run(pytester: pytest.Pytester, text: str, ini: str, *options: str) -> pytest.RunResult:
    pytester.makeini(f"[pytest]\n{ini}")
    pytester.makepyfile(test_it=text)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options, timeout=LIMIT)


def run_program(pytester: pytest.Pytester, name: str, ini: str, *options: str) -> pytest.RunResult:
    return run(pytester, (PROGRAMS / f"{name}.py").read_text(), ini, "-p", "no:twisted", *options)


@pytest.mark.parametrize("options", [(), ("-n2",), ("-o", "bridge_loop_scope=module")])
def test_every_kind_of_test_runs_on_one_loop(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    ended = run_program(pytester, "one_loop", ON, *options)
    ended.assert_outcomes(passed=16)
    assert ended.ret == 0


def test_pytest_twisted_and_pytest_asyncio_share_a_loop(pytester: pytest.Pytester) -> None:
    text = (PROGRAMS / "shared.py").read_text()
    without = run(pytester, text, OFF, "--reactor=asyncio", "-W", "default")
    without.assert_outcomes(passed=2, failed=1, warnings=without.parseoutcomes().get("warnings", 0))
    without.stdout.re_match_lines([r"FAILED test_it.py::test_both - RuntimeError: .*running( event loop)?.*"])
    both = run(pytester, text, ON)
    assert both.ret == pytest.ExitCode.USAGE_ERROR
    both.stderr.re_match_lines([r"ERROR: pytest-twisted runs the reactor .* run pytest with -p no:twisted "])
    ours = run(pytester, text, ON, "-p", "no:twisted")
    ours.assert_outcomes(passed=3)


def test_tests_and_fixtures_wait(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "waits", ON)
    ended.assert_outcomes(passed=23, skipped=2, xfailed=1)


def test_the_loop_stays_beside_what_the_tested_code_runs(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "beside", ON)
    ended.assert_outcomes(passed=12)


def test_failures_show_the_users_lines(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "failures", ON)
    ended.assert_outcomes(passed=4, failed=5, errors=6)
    said = str(ended.stdout)
    assert "_testing" not in said
    assert len(re.findall(r"^E +LookupError: gone$", said, re.MULTILINE)) == 2
    for name in ("test_async", "test_callbacks", "test_blocked", "test_set_up", "test_torn_down"):
        shown = re.search(rf"^_+ .*\b{name}\b _+\n(.*?)^_{{5,}}", said, re.DOTALL | re.MULTILINE)
        assert shown, name
        lines = re.findall(r"^(\S+\.py):\d+: ", shown[1], re.MULTILINE)
        assert set(lines) == {"test_it.py"}, shown[1]
    ended.stdout.fnmatch_lines(["fixture 'yielding_twice' yields more than once"])
    ended.stdout.fnmatch_lines(["*ValueError: yielding_never did not yield a value"])
    ended.stdout.fnmatch_lines(["FAILED test_it.py::test_stops_the_loop - *BridgeClosed: *was stopped*"])
    ended.stdout.fnmatch_lines(["ERROR *test_stops_the_reactor - * has stopped the loop*"])


def test_leftovers_fail_the_test_that_left_them(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "leftovers", ON)
    left = {
        "test_task": r"task: <Task pending name='sleeper'",
        "test_task_of_pytest_asyncio": r"task: <Task pending name='sleeper'",
        "test_submitted": r"task: <Task pending .*sleep\(\)",
        "test_delayed_call": r"delayed call: <DelayedCall .* late\(\)>",
        "test_timer": r"delayed call: <TimerHandle .*late\(\)",
        "test_port": r"port: <.*Factory.* on \d+>",
        "test_server": r"port: an asyncio server that listens on \('127.0.0.1', \d+\)",
        "test_thread": r"thread: <Thread\(lingering",
        "test_last": r"delayed call: .*, which the fixture 'forgetful' \(module\) has made",
    }
    for name, pattern in left.items():
        ended.stdout.re_match_lines(
            [rf"_+ ERROR at teardown of {name} _+", rf"{name} has left 1 thing behind:", f"  {pattern}"]
        )
    ended.assert_outcomes(passed=len(left) + 6, failed=1, errors=len(left))
    ended.stdout.re_match_lines(
        [r"-+ Captured leftovers teardown -+", "test_fails_and_leaves has .*", r"  .*late\(\)>"]
    )


FIXTURE = 'fixture = pytest.fixture(scope="session")\n'
OTHERS = {
    "ours": FIXTURE,
    "pytest-asyncio": """
import pytest_asyncio

pytestmark = pytest.mark.asyncio(loop_scope="session")
fixture = pytest_asyncio.fixture(scope="session", loop_scope="session")
""",
    "anyio": FIXTURE
    + """
pytestmark = pytest.mark.anyio

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"
""",
}


@pytest.mark.parametrize("runner", OTHERS)
def test_what_fixtures_of_the_session_make_later_is_theirs(pytester: pytest.Pytester, runner: str) -> None:
    text = (PROGRAMS / "wide.py").read_text()
    assert FIXTURE in text
    ended = run(pytester, text.replace(FIXTURE, OTHERS[runner]), ON, "-p", "no:twisted")
    ended.assert_outcomes(passed=12, errors=1)
    ended.stdout.re_match_lines(
        [
            r"test_leaves_things.* has left 2 things behind:",
            r"  delayed call: <DelayedCall .* Client\.expire\(None\)>",
            r"  task: <Task pending name='waiter'",
        ]
    )


def test_what_fixtures_make_later_in_sync_tests_is_theirs(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "wide_sync", ON)
    ended.assert_outcomes(passed=7, errors=2)
    ended.stdout.fnmatch_lines(["test_leaves_a_call_from_a_thread has left 1 thing behind:", "  delayed call: * late*"])
    ended.stdout.fnmatch_lines(["  delayed call: *, which the fixture 'forgetful' (module) has made"])


def test_errors_that_nobody_has_seen_fail_the_test(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "unseen", ON)
    first_lines = {
        "test_deferred": "Unhandled error in Deferred:",
        "test_deferred_in_a_circle": "Unhandled error in Deferred:",
        "test_task": "Task exception was never retrieved:",
        "test_callback": r"Exception in callback failing\(\) .*:",
        "test_delayed_call": "while handling timed call.*:",
        "test_submitted": r"submit\(function failing_later\) failed, and nobody asked its Future for the error:",
    }
    for name, line in first_lines.items():
        shown = re.search(rf"^_+ ERROR at teardown of {name} _+\n(.*?)^(-----|_____)", str(ended.stdout), re.S | re.M)
        assert shown, name
        assert re.match(rf"{name} has had 1 error that nobody has seen:\n{line}\nTraceback .*:\n", shown[1]), shown[1]
        assert "ValueError: seen by nobody\n" in shown[1]
        assert "_twisted" not in shown[1]
    ended.assert_outcomes(passed=len(first_lines) + 7, failed=1, errors=len(first_lines))
    run_program(pytester, "unseen", ON + "bridge_unseen = ignore\n").assert_outcomes(
        passed=len(first_lines) + 7, failed=1
    )


def _before_summary(ended: pytest.RunResult) -> str:
    """Return what pytest has printed before its summary, in which it repeats the errors on CI."""
    return str(ended.stdout).partition("short test summary info")[0]


def test_a_client_that_blocks_the_loop_is_told(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "standstill", ON)
    ended.assert_outcomes(passed=1, failed=3)
    assert _before_summary(ended).count("[bridge: loop-stood-still]") == 1
    ended.stdout.re_match_lines(
        [
            "_+ test_blocks_the_loop _+",
            r"E +TimeoutError: timed out",
            r"E +The loop of the tests stood still .*in_thread",
        ]
    )


def test_trial_cleans_up_after_its_own(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "trial_cases", ON)
    ended.assert_outcomes(passed=5, skipped=1, failed=5)
    ended.stdout.fnmatch_lines([">       self.assertEqual(1, 2)", "*FailTest: 1 != 2"])
    ended.stdout.fnmatch_lines(["*TimeoutError: *(test_late) still running at 0.2 secs"])
    ended.stdout.fnmatch_lines(["*TimeoutError: *(test_late_task) still running at 0.2 secs", "the task was cancelled"])
    said = _before_summary(ended)
    assert said.count("DirtyReactorAggregateError: Reactor was unclean.") == 2


def test_marks_alone_are_enough(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "marked", OFF)
    ended.assert_outcomes(passed=9, failed=1, errors=1)
    ended.stdout.fnmatch_lines(["the fixture 'for_the_module' has the scope 'module', and its loop ends before*"])
    ended.stdout.fnmatch_lines(
        ["FAILED *test_async_without_the_mark - Failed: async def functions are not natively supported*"]
    )


def test_timeouts_and_ctrl_c(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "interrupted", ON, "-s")
    assert ended.ret == pytest.ExitCode.INTERRUPTED
    ended.assert_outcomes(passed=1, failed=3)
    ended.stdout.fnmatch_lines(["*cleaned up after the time-out*", "*cleaned up after Ctrl-C*", "*KeyboardInterrupt*"])
    ended.stdout.fnmatch_lines(["*the module's fixture has ended", "*the session's fixture has ended"])


def test_nothing_heavy_is_loaded_without_the_setting(pytester: pytest.Pytester) -> None:
    others = ("-p", "no:anyio", "-p", "no:asyncio", "-p", "no:hypothesispytest", "-p", "no:timeout", "-p", "no:xdist")
    loaded: list[set[str]] = []
    for options in [(), ("-p", "no:bridge")]:
        run_program(pytester, "inert", "filterwarnings = error\n", *others, *options).assert_outcomes(passed=1)
        loaded.append(set(json.loads((pytester.path / "modules.json").read_text())))
    added = loaded[0] - loaded[1]
    assert "bridge.ext.pytest" in added
    heavy = {"anyio", "asyncio", "concurrent", "greenlet", "selectors", "socket", "ssl", "twisted", "zope"}
    assert not heavy & {each.partition(".")[0] for each in added}
    assert not {each for each in added if each.startswith(("bridge.ext._", "bridge._loop", "bridge._twisted"))}
    run_program(pytester, "inert", "bridge = true\n", *others).assert_outcomes(passed=1)
    loaded.append(set(json.loads((pytester.path / "modules.json").read_text())))
    assert "bridge.ext._testing" in loaded[2]
    assert "twisted" not in loaded[2]


def test_collecting_starts_nothing(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "one_loop", ON, "--collect-only", "-q")
    ended.stdout.fnmatch_lines(["16 tests collected in *"])


@pytest.mark.parametrize(
    ("ini", "mark", "said"),
    [
        (
            "bridge_loop_scope = always\n",
            "",
            "bridge_loop_scope is one of session, module, class, function, not 'always'",
        ),
        ("bridge_leftovers = no\n", "", "bridge_leftovers is one of error, ignore, not 'no'"),
        ("", "@__import__('pytest').mark.bridge(loop_scope='run')\n", "test_it.py::test_it: loop_scope is one of *"),
        (
            "",
            "@__import__('pytest').mark.bridge(scope='class')\n",
            "*: mark.bridge takes * not scope",
        ),
    ],
)
def test_wrong_settings_are_named(pytester: pytest.Pytester, ini: str, mark: str, said: str) -> None:
    ended = run(pytester, f"{mark}def test_it(): pass", ON + ini, "-p", "no:twisted")
    assert ended.ret == pytest.ExitCode.USAGE_ERROR
    ended.stderr.fnmatch_lines([f"ERROR: {said} [[]bridge: pytest-settings]"])


def test_another_reactor_or_loop_is_named(pytester: pytest.Pytester) -> None:
    ended = run_program(pytester, "another_reactor", ON)
    assert ended.ret == pytest.ExitCode.USAGE_ERROR
    ended.stdout.fnmatch_lines(["*Exit: twisted.internet.reactor is a * that something else runs*"])
    main = "async def main(): return pytest.main(['-p', 'no:twisted'])"
    code = f"import asyncio, bridge, pytest\n{main}\nasyncio.run(main())"
    ended = pytester.run(sys.executable, "-W", "error", "-c", code, timeout=LIMIT)
    ended.stderr.fnmatch_lines(["ERROR: a loop runs in this thread already, *"])


def test_a_test_may_run_pytest_in_its_process(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("pytest_plugins = ['pytester']")
    text = """
import asyncio, bridge

async def running_loop():
    return asyncio.get_running_loop()

def test_outer(pytester):
    loop = bridge.block_on(running_loop())
    pytester.makeini("[pytest]\\nbridge = true")
    pytester.makepyfile("async def test_inner(): pass")
    pytester.inline_run("-p", "no:twisted", "-p", "no:asyncio").assertoutcome(passed=1)
    assert bridge.block_on(running_loop()) is loop
    bridge.submit(asyncio.sleep(60))
"""
    run(pytester, text, ON, "-p", "no:twisted").assert_outcomes(passed=1, errors=1)  # for what it leaves


def test_examples_of_the_page(pytester: pytest.Pytester) -> None:
    page = (ROOT / "docs" / "how-to" / "pytest-plugin.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    pytester.makepyfile(**{f"test_{number}": text for number, text in enumerate(examples)})
    pytester.makeini(f"[pytest]\n{ON}")
    ended = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:twisted", timeout=LIMIT)
    assert ended.ret == 0, str(ended.stdout)
    assert len(examples) == 3
    ended.assert_outcomes(passed=10)
