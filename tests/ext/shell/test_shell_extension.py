"""What the extension does to a shell of IPython's in this process, and that it can be undone."""

from __future__ import annotations

import atexit
import builtins
import html.parser
import re
import sys
import threading
from html import unescape

import pytest

import bridge
from bridge import block_on, default_bridge
from bridge.ext._status import Status

interactiveshell = pytest.importorskip(
    "IPython.core.interactiveshell", reason="needs IPython: pip install 'bridge-interop[shell]'"
)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:traitlets", "ignore::ResourceWarning")


@pytest.fixture
def ip(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell puts its own there
    shell = interactiveshell.InteractiveShell.instance()
    yield shell
    shell.run_cell("%unload_ext bridge")
    shell.reset(new_session=False)
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()
    interactiveshell.InteractiveShell.clear_instance()


def state(ip):
    """Return everything that the extension touches."""
    return {
        "loop_runner": ip.loop_runner,
        "autoawait": ip.autoawait,
        "runners": dict(ip.loop_runner_map),
        "transformers": list(ip.ast_transformers),
        "magics": {kind: sorted(table) for kind, table in ip.magics_manager.magics.items()},
        "loop_magic": ip.magics_manager.magics["cell"].get("loop"),
        "user_magics": dict(vars(ip.magics_manager.user_magics)),
        "events": {event: list(functions) for event, functions in ip.events.callbacks.items()},
        "names": {name: value for name, value in ip.user_ns.items() if not re.match(r"_|In|Out|exit|quit", name)},
        "hidden": {name for name in ip.user_ns_hidden if not name.startswith("_")} - {"In", "Out"},
        "builtins": dict(vars(builtins)),
    }


def run(ip, source):
    result = ip.run_cell(source)
    result.raise_error()
    return result.result


def test_unloading_puts_everything_back(ip):
    def theirs(line, cell=None):
        return "theirs"

    ip.register_magic_function(theirs, "cell", "loop")
    ip.autoawait = False
    before = state(ip)
    run(ip, "%load_ext bridge")
    assert ip.autoawait
    assert state(ip) != before
    run(ip, "%autoblock off\n%bridge")
    run(ip, "%unload_ext bridge")
    assert state(ip) == before
    assert run(ip, "%%loop\nx") == "theirs"


def test_the_cell_that_unloads_runs_to_its_end(ip):
    before = state(ip)
    run(ip, "%load_ext bridge")
    assert run(ip, "import asyncio\n%unload_ext bridge\nawait asyncio.sleep(0, 42)") == 42
    run(ip, "del asyncio")
    assert state(ip) == before


def test_unloading_leaves_what_the_user_has_changed(ip):
    run(ip, "loop = 'mine'")
    run(ip, "%load_ext bridge")
    assert run(ip, "loop") == "mine"
    run(ip, "reactor = 'mine too'")
    run(ip, "%autoawait asyncio")
    runner = ip.loop_runner
    run(ip, "%unload_ext bridge")
    assert (ip.user_ns["loop"], ip.user_ns["reactor"], ip.loop_runner) == ("mine", "mine too", runner)
    assert "block_on" not in ip.user_ns


def test_loading_twice_and_again_does_nothing_twice(ip):
    before = state(ip)
    for _ in range(2):
        bridge.load_ipython_extension(ip)
    assert len(ip.ast_transformers) == len(before["transformers"]) + 1
    run(ip, "%reload_ext bridge")
    assert len(ip.ast_transformers) == len(before["transformers"]) + 1
    for _ in range(2):
        bridge.unload_ipython_extension(ip)
    assert state(ip)["transformers"] == before["transformers"]


def test_failed_load_leaves_nothing_behind(ip, monkeypatch):
    before = state(ip)
    monkeypatch.setattr(ip, "push", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bridge.load_ipython_extension(ip)
    monkeypatch.undo()
    assert state(ip) == before


def test_autoawait_off_means_that_nothing_is_awaited(ip):
    run(ip, "%load_ext bridge")
    run(ip, "%autoawait off")
    with pytest.raises(SyntaxError):
        run(ip, "await nothing")


def test_other_transformers_work_beside_ours(ip):
    import ast

    class Doubles(ast.NodeTransformer):
        def visit_Constant(self, node):
            return ast.Constant(node.value * 2) if isinstance(node.value, int) else node

    run(ip, "%load_ext bridge")
    ip.ast_transformers.append(Doubles())
    assert run(ip, "import asyncio\nawait asyncio.sleep(0, 21)") == 42
    assert run(ip, "%%loop\nawait asyncio.sleep(0, 21)") == 42
    ip.ast_transformers.pop()


@pytest.mark.parametrize("magic", ["%autoblock perhaps", "%bridge please", "%%loop now\n1"])
def test_wrong_arguments_of_a_magic_are_refused(ip, magic):
    run(ip, "%load_ext bridge")
    result = ip.run_cell(magic)
    assert type(result.error_in_exec).__name__ == "UsageError"


def test_magics_have_help(ip):
    run(ip, "%load_ext bridge")
    for kind, name in (("line", "autoblock"), ("line", "bridge"), ("cell", "loop")):
        assert ip.find_magic(name, kind).__doc__


def test_reactor_is_the_installed_one_and_loop_the_bridges(ip):
    run(ip, "%load_ext bridge")
    from twisted.internet import reactor

    assert run(ip, "reactor") is default_bridge().reactor
    assert default_bridge().reactor is reactor or default_bridge().reactor is not None
    assert run(ip, "loop") is default_bridge().loop


def test_error_of_a_loop_cell_is_shown_in_its_own_way_once_only(ip, capsys):
    run(ip, "%load_ext bridge")
    result = ip.run_cell("%%loop\nerror = LookupError('bad' + 'ly')\nraise error")
    assert type(result.error_in_exec) is LookupError
    shown = capsys.readouterr().out
    assert "run_cell_magic" not in shown
    assert not hasattr(result.error_in_exec, "_render_traceback_")
    ip.run_cell("raise error")
    assert "raise error" in capsys.readouterr().out


def test_a_call_in_the_wrong_thread_names_the_extension_where_it_is_not_loaded(ip, capsys):
    names = "import bridge\nfrom twisted.internet.task import deferLater\nreactor = bridge.default_bridge().reactor"
    ip.run_cell(names)
    for extension, shows, hides in (("un", "%load_ext bridge   ", "await def"), ("", "await deferLater(", "%load_ext")):
        ip.run_cell(f"%{extension}load_ext bridge")
        capsys.readouterr()
        ip.run_cell("bridge.block_on(deferLater(reactor, 0, str))")
        shown = capsys.readouterr().out
        assert shows in shown
        assert hides not in shown
        assert "block_on(lambda: deferLater(reactor, 0, str))" in shown
        assert len(shown.splitlines()) <= 24


# --- the status


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)

    def handle_data(self, data):
        self.text += data


def test_status_has_the_open_calls_with_both_stacks_escaped(ip):
    run(ip, "%load_ext bridge")

    class Odd:
        def __await__(self):
            import asyncio

            return asyncio.sleep(60).__await__()

        def __repr__(self):
            return "<script>alert('&')</script>"

    def waits_for_something_odd():
        started.set()
        with pytest.raises(bridge.BridgeClosed):
            block_on(Odd())

    started = threading.Event()
    thread = threading.Thread(target=waits_for_something_odd, name="<b>odd</b>")
    thread.start()
    started.wait()
    life = default_bridge().last_run
    while not any(getattr(call, "work", None) is not None for call in list(life.open)):
        threading.Event().wait(0.01)
    status = run(ip, "%bridge")
    default_bridge().close()
    thread.join()
    text, page = repr(status), status._repr_html_()
    assert "<script>alert('&')</script>" in text
    assert "waits_for_something_odd" in text
    tags = Tags()
    tags.feed(page)
    assert {"script", "b"}.isdisjoint(tags.seen)
    assert "<script>alert('&')</script>" in tags.text
    assert "<b>odd</b>" in tags.text
    assert unescape(page).count("waits_for_something_odd") == text.count("waits_for_something_odd")


def test_status_of_a_bridge_that_never_ran_starts_nothing():
    made = bridge.Bridge("idle", install_reactor=False)
    assert "not started" in repr(Status(made))
    assert not made.was_started


def test_status_says_why_the_loop_has_ended(bridge):
    def die():
        raise SystemExit("a reason")

    life = bridge.current_run()
    bridge.loop.call_soon_threadsafe(die)
    life.thread.join()
    assert "a reason" in repr(Status(bridge))
    assert "ended" in Status(bridge)._repr_html_()
