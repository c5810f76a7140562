"""The command line, ``python -m bridge <command>``.

A command is an entry of COMMANDS. Its imports run when it runs, so ``--help`` stays quick.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import __version__


class Command(NamedTuple):
    """A subcommand: its texts for ``--help``, its arguments, and the function that runs it and returns the exit status.

    If ``passes_on`` is set, unknown arguments are no error, and the namespace has them in ``rest``.
    """

    summary: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    passes_on: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name and return the exit status.

    :raises SystemExit: after ``--help``, with status 0, and for wrong arguments, with status 2.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bridge",
        description="Wait for asyncio, anyio and Twisted code in sync code, also where a loop runs already.",
        epilog="'python -m bridge <command> --help' says more about a command.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the versions and the abilities, and exit")
    commands = parser.add_subparsers(title="commands", metavar="<command>")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=command.summary,
            description=textwrap.dedent(command.description).strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run, passes_on=command.passes_on)
    # Not nargs=REMAINDER for the rest: argparse does not accept one that starts with an option.
    arguments, rest = parser.parse_known_args(argv)
    arguments.rest = rest
    if "run" not in arguments:  # no command
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        parser.print_help()
        return 0
    if rest and not arguments.passes_on:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    status: int = arguments.run(arguments)
    return status


class _Version(argparse.Action):
    """Prints the report and exits, as argparse's own action for a version does with one line."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from ._cli.versions import report

        print(report(__version__))
        parser.exit()


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calls",
        type=_count,
        default=5000,
        metavar="N",
        help="calls to time in each strategy, as far as the time lasts (default: %(default)s)",
    )
    parser.add_argument("--gui", choices=["tk", "qt"], help="show a window instead, in tkinter or in PySide6 or PyQt6")
    parser.add_argument(
        "--seconds", type=_count, metavar="N", help="with --gui: press every button, and close the window after so long"
    )


def _run_demo(arguments: argparse.Namespace) -> int:
    if arguments.gui is not None:
        from ._cli import gui_demo

        return gui_demo.main(arguments.gui, arguments.seconds)
    from ._cli import demo

    return demo.main(arguments.calls)


def _count(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "python -m bridge run (script | -m module) [argument ...]"
    parser.add_argument("-m", dest="as_module", action="store_true", help="run a module, as python -m does")
    parser.add_argument("target", metavar="script", help="the script, or the module's name")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="argument", help="for the script's sys.argv")


def _run_script(arguments: argparse.Namespace) -> int:
    from ._cli import run

    return run.main(arguments.target, arguments.arguments, as_module=arguments.as_module)


def _shell_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "python -m bridge shell [argument ...]"


def _run_shell(arguments: argparse.Namespace) -> int:
    from ._cli import shell

    return shell.main(arguments.rest)


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plot", metavar="FILE.svg", help="draw the results as well (needs matplotlib)")
    parser.add_argument("--json", metavar="FILE", help="save them, in pyperf's format")
    parser.add_argument("--compare", metavar="OLD.json", help="show what has changed since, and whether by chance")
    parser.add_argument(
        "--seconds",
        type=_count,
        default=24,
        metavar="N",
        help="to measure for; starting the processes comes on top (default: %(default)s)",
    )


def _run_bench(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from ._cli.bench import command

    plot, json, old = (Path(each) if each else None for each in (arguments.plot, arguments.json, arguments.compare))
    return command.main(plot, json, old, arguments.seconds)


def _twin_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="module:Name", help="a class or a function, or a whole module")
    parser.add_argument("-o", "--output", metavar="FILE.py", help="the file to write (default: standard output)")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="[OLD=]NEW",
        help="what a twin is called; by default as the class, without its Async",
    )
    parser.add_argument("--bridge", metavar="module:name", help="the library's own bridge, instead of the default one")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the file has drifted")
    parser.add_argument(
        "--line-length", type=_count, default=88, metavar="N", help="where to break lines (default: %(default)s)"
    )


def _run_twin(arguments: argparse.Namespace) -> int:
    from ._cli.twin import command

    asked = command.Asked(
        arguments.names,
        arguments.output,
        arguments.name,
        arguments.check,
        arguments.bridge,
        arguments.line_length,
    )
    return command.main(asked, __version__)


COMMANDS = {
    "bench": Command(
        "compare ways to call async code from sync code, with the libraries that are installed",
        """
        Time block_on in every strategy against asyncio's, Twisted's and anyio's own means, and
        against those other libraries for it that are installed: pip install 'bridge-interop[bench]'
        installs all of them. Each has a process of its own, and they are measured in turns, so the
        ratios hold on a busy machine too; once with all threads on one core, where times repeat to
        a few per cent, and once wherever the system puts them.

        Takes less than a minute. A result that is wrong ends it with status 1.
        """,
        _bench_arguments,
        _run_bench,
    ),
    "demo": Command(
        "run servers and clients of both worlds on one loop, and time the strategies",
        """
        Start a Twisted web server and an asyncio server on the loopback interface, call each
        from sync code with Twisted's, asyncio's and anyio's client, run one coroutine that awaits
        all of them, and time block_on in every strategy.

        Takes a few seconds and needs no network. Every step checks its result: the exit status
        is 0 if all of them succeeded, else 1.

        With --gui a window shows what a Twisted client and an asyncio client receive, while code
        behind its buttons blocks in the window's own thread.
        """,
        _demo_arguments,
        _run_demo,
    ),
    "run": Command(
        "run a sync script on the loop's thread, so that block_on(treq.get(url)) works as written",
        """
        Run a whole script, or with -m a module, on the loop's own thread, so that
        block_on(treq.get(url)) works as written: the reactor is used in its own thread. What the
        script blocks on switches stacks, and the loop goes on meanwhile. Exit status, tracebacks,
        sys.argv and Ctrl-C are as under plain python.
        """,
        _run_arguments,
        _run_script,
    ),
    "shell": Command(
        "a shell, IPython, in which Deferreds and coroutines are awaited and blocked on",
        """
        Start IPython with the bridge running: top-level await of Deferreds and coroutines, Ctrl-C in
        whatever blocks, and reactor, loop, block_on, blocking and bridge at hand. Arguments go to
        IPython, such as -c 'await f()', a script, or --no-banner. Needs the extra: bridge-interop[shell].
        """,
        _shell_arguments,
        _run_shell,
        passes_on=True,
    ),
    "twin": Command(
        "write the sync twin of an async library as source, with types",
        """
        Import async classes, functions or a whole module, and write their sync twins as source: the
        same names, signatures, types and docstrings, each body one line over blocking(), enter() or
        iterate(). What they return of the same package gets a twin too. For authors of libraries,
        who publish the file beside the async one.

        With --check the file is compared with what would be written now, and the exit status is 1
        if it has drifted: for a test of the library's. It is 2 if nothing can be written.
        """,
        _twin_arguments,
        _run_twin,
    ),
}

if __name__ == "__main__":
    sys.exit(main())
