from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import nox
import nox.command
from packaging.requirements import Requirement

nox.needs_version = ">=2025.10.16"
nox.options.sessions = ["check"]
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False  # on CI too: the Pythons of the machine are those that count
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).resolve().parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
TESTS = ROOT / "tests"
GUI_TESTS = [str(TESTS / "strategies" / each) for each in ("gui", "test_gevent.py")]
SHELL_TESTS = [str(TESTS / each) for each in ("ext/shell", "cli/test_shell_command.py")]
PLUGIN_TESTS = [str(TESTS / "ext" / "plugin")]
BENCH_TESTS = [str(TESTS / "cli" / "bench")]
REAL_TESTS = str(TESTS / "real")
ENGINES_TESTS = str(TESTS / "engines")
NOTEBOOK_TESTS = str(TESTS / "notebook")
# What the session tests leaves to others.
OF_OTHER_SESSIONS = [
    *(*GUI_TESTS, *SHELL_TESTS, *PLUGIN_TESTS, *BENCH_TESTS),
    *(REAL_TESTS, ENGINES_TESTS, NOTEBOOK_TESTS),
]
PRIVATE_TESTS = str(TESTS / "private")
DOCS_TESTS = str(TESTS / "docs")
# What tests_lowest runs, with the lowest versions of Twisted, anyio and greenlet: the tests of the rooms that use names
# of theirs. The other rooms reach them through these.
LOWEST_TESTS = [
    *(str(TESTS / each) for each in ("api", "calls", "loop", "private", "runs", "strategies", "twisted", "values")),
    *(str(TESTS / each) for each in ("watch", "project/test_names.py")),
]
# And of the tests that start processes those about an import of the three, their names and a reactor of the program's.
# The others are about CPython's processes, signals, forks and exits, to which a lower version of the three is the same.
LOWEST_PROCESSES = [
    PRIVATE_TESTS,
    *(str(TESTS / each) for each in ("api", "loop", "twisted", "runs/test_attached.py", "runs/test_program.py")),
]
SUPPORTED = nox.project.python_versions(PYPROJECT)


def _is_here(version: str) -> bool:
    if tuple(map(int, version.split("."))) == sys.version_info[:2]:
        return True
    python = shutil.which(f"python{version}")
    # A version manager leaves programs on the path that only say that their Python is not active.
    return python is not None and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


FOUND = [version for version in SUPPORTED if _is_here(version)]
# Nox passes when every session was skipped. So without any supported Python these sessions run on nox's own, and fail.
TESTED = SUPPORTED if FOUND else None
OLDEST = FOUND[0] if FOUND else None
# Of the site and the notebook: for the newest Python, too, there are wheels of all that they need.
NEWEST = FOUND[-1] if FOUND else None
# Tests that are marked any_python run on these only: with more Pythons between them they would find nothing more.
# They are about other software: the GUI toolkits (but for what tests/strategies/gui/conftest.py lists), IPython with a
# GUI, uvloop, twistd, gunicorn, the programs of the benchmarks, the clients that get a sync twin, Sphinx; and
# Twisted's guarded methods, its clients over several lives, and its modules.
# The rest is about the project's own programs: the command line, the shell, both demos, pytest's settings, and parts of
# chaos, all of which runs on each Python. Those marked newest run on the newest only: each row of the benchmarks, and
# each web server under load. On every Python they run when its figures are published.
ENDS = {*FOUND[:1], *FOUND[-1:]}
# The session engines runs on this one only: each engine comes to block_on from its own worker, as to any sync code, so
# that another Python would find little more. It is the newest that Celery, Dask and gevent all name among those that
# they run on, and there are wheels of all that they need; its default way to start processes is no longer to fork.
ENGINES = "3.14"
# The types are checked as these see them, found or not: each branch on a version in bridge/ is taken by one of them.
TYPED = [SUPPORTED[0], SUPPORTED[-1]]
# What the session check runs: with as many processes that run tests as there are cores, one for a session, while one
# more session installs what it needs, or runs no tests. The longest begin first.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
SIDE_BY_SIDE = [
    "tests_lowest",
    *(f"{name}-{version}" for name in ("tests", "gui", "real") for version in FOUND),
    "docs",
    *(["engines"] if ENGINES in FOUND else []),
    *(f"plugin-{version}" for version in FOUND if version in ENDS),
    "shell_lowest",
    "types",
    "lint",
]
NO_TESTS = {"types", "lint"}
# These measure, so they have the machine for themselves. The same sessions have made their environments before.
ALONE = [f"real-{version}" for version in FOUND]
MEASURES = ["--", "-mmeasures", "tests/cli/bench/test_benchmarks.py"]
# Set for the sessions that check runs, which finds the wheel built.
BUILT = "BRIDGE_WHEEL_IS_BUILT"
CHAOS_SECONDS = "BRIDGE_CHAOS_SECONDS"


def _group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


def _lowest(requirement: str) -> str:
    parsed = Requirement(requirement)
    (bound,) = (clause.version for clause in parsed.specifier if clause.operator == ">=")
    return f"{parsed.name}=={bound}"


def _install_wheel(session: nox.Session, *others: str) -> None:
    (wheel,) = _wheel_dir(session).glob("*.whl")
    if any(Path(session.virtualenv.location).glob("[Ll]ib/**/site-packages/bridge_interop-*")):
        # In an environment that is used again pip takes a wheel of the same version for the one that is there.
        session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install(str(wheel), *others)


def _wheel_dir(session: nox.Session) -> Path:
    return Path(session.cache_dir) / "wheel"


def _leave_checkout(session: nox.Session) -> None:
    """Change to an empty directory, so that no subprocess imports the checkout's bridge/ instead of the wheel.

    It is one of the system's, where tests find their temporary files too: a socket's path may have some 100 bytes.
    """
    folder = tempfile.mkdtemp(prefix="bridge-", dir="/tmp" if os.path.isdir("/tmp") else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    session.env["TMPDIR"] = folder
    session.chdir(folder)


def _without(*ignored: str) -> list[str]:
    """Return options that ignore some tests, and those for which other sessions have what they need."""
    return [f"--ignore={path}" for path in (*OF_OTHER_SESSIONS, *ignored)]


def _test_in(
    session: nox.Session, *requirements: str, paths: list[str], marked: str = "", workers: int = CORES
) -> None:
    if not FOUND:
        session.error(f"none of Python {', '.join(SUPPORTED)} was found on this machine")
    _install_wheel(session, *requirements)
    _leave_checkout(session)
    _pytest(session, paths, marked, workers)


def _pytest(session: nox.Session, paths: list[str], marked: str = "", workers: int = CORES) -> None:
    # A path that is given is one in the checkout, which pytest does not start in.
    given = [str(ROOT / each) if each.startswith("tests/") else each for each in session.posargs]
    if given != session.posargs:
        paths, marked = [], ""
    else:
        left_out = ["any_python"] * (session.python not in ENDS) + ["newest"] * (session.python != NEWEST)
        marked = " and ".join(filter(None, [marked, *(f"not {mark}" for mark in left_out)]))
    # Workers, though it be one: a test that hangs ends its worker, and the next one goes on with the others.
    options = [f"-n{1 if BUILT in os.environ else workers}", "--max-worker-restart=20"]
    if marked:
        options.append(f"-m{marked}")
    config = f"--config-file={ROOT / 'pyproject.toml'}"
    # Tests start pytest too, and further sessions of this Python do: they find the modules that pytest has rewritten.
    environment = {"BRIDGE_TEST_WHEEL": "1", "PYTHONDONTWRITEBYTECODE": ""}
    session.run("pytest", config, *options, *given, *paths, env=environment)


@nox.session(requires=["build"], venv_backend="none")
def check(session: nox.Session) -> None:
    """Run every session that checks something, some at a time, and print what each has printed when it has ended."""
    outcomes: list[str] = []
    failed: list[str] = []
    printing = threading.Lock()
    cores = threading.Semaphore(CORES)

    def run(name: str, *options: str) -> None:
        session.log(f"{name} begins")
        took, status = 0.0, 0
        # Not a pipe, whose end a process that a test has left could hold open.
        with tempfile.TemporaryFile() as printed:

            def nox_does(*step: str) -> None:
                nonlocal took, status
                began = time.monotonic()
                status = subprocess.run(
                    [sys.executable, "-m", "nox", f"--noxfile={__file__}", f"--session={name}", *step],
                    env=os.environ | {BUILT: "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                ).returncode
                took += time.monotonic() - began

            if not options:
                nox_does("--install-only")
            if not status:
                with contextlib.nullcontext() if name in NO_TESTS else cores:
                    nox_does("--no-install", *options)
            printed.seek(0)
            text = printed.read().decode(errors="replace")
        outcome = f"{name}: {'failed' if status else 'success'}, {took:.0f} s"
        with printing:
            outcomes.append(outcome)
            if status:
                failed.append(name)
            print(text, end="", flush=True)
            session.log(f"{outcome}; {len(outcomes)} of {len(SIDE_BY_SIDE) + len(ALONE)} have ended")

    with concurrent.futures.ThreadPoolExecutor(CORES + 1) as pool:
        list(pool.map(run, SIDE_BY_SIDE))  # which raises what run() has raised
    for name in ALONE:
        run(name, *MEASURES)
    for outcome in outcomes:
        session.log(f"* {outcome}")
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session
def lint(session: nox.Session) -> None:
    """Check the code's style and format."""
    session.install(*_group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, as the oldest and the newest supported Python see them, and those of twins of real clients."""
    session.install(*PYPROJECT["project"]["dependencies"], *_group("types"))
    for version in TYPED:
        session.run("mypy", f"--python-version={version}")
        session.run("pyright", f"--pythonversion={version}")
    session.run("python", "tests/typing/check_twins.py", session.create_tmp())


@nox.session
def build(session: nox.Session) -> None:
    """Build the wheel that the other sessions install, by way of the source distribution."""
    if BUILT in os.environ:
        return
    shutil.rmtree(_wheel_dir(session), ignore_errors=True)
    session.install("build")
    session.run("pyproject-build", f"--outdir={_wheel_dir(session)}", silent=True)


@nox.session(python=TESTED, requires=["build"])
def tests(session: nox.Session) -> None:
    """Test the wheel on every supported Python that is here. Arguments go to pytest."""
    # On the oldest Python tests_lowest takes the private names away, with the lowest versions of the libraries. There
    # the examples of the pages run, as far as their libraries are installed; docs runs all of them, on the newest.
    ignored = [PRIVATE_TESTS] if session.python == OLDEST else [DOCS_TESTS]
    _test_in(session, *_group("test"), paths=[*_without(*ignored), str(TESTS)])
    if not session.posargs:
        _chaos(session, 20)


@nox.session(python=OLDEST, requires=["build"])
def tests_lowest(session: nox.Session) -> None:
    """Test the wheel with the lowest versions that its metadata admits. Arguments go to pytest.

    The fast half of LOWEST_TESTS, and of the other half LOWEST_PROCESSES.
    """
    pins = map(_lowest, PYPROJECT["project"]["dependencies"])
    ignored = _without(str(TESTS / "runs" / "test_uvloop.py"))
    _test_in(session, *pins, *_group("test"), paths=[*ignored, *LOWEST_TESTS], marked="not process")
    if not session.posargs:
        _pytest(session, LOWEST_PROCESSES, "process")


@nox.session(python=TESTED, requires=["build"])
def real(session: nox.Session) -> None:
    """Test beside the software that users have, and the benchmarks with what they compare with. Arguments go to pytest.

    Such as Django, trial and uWSGI, and crochet and asgiref.
    """
    if session.python in ENDS:  # whose tests are marked any_python
        _build_uwsgi(session)
    marked = "not measures" if BUILT in os.environ else ""  # check runs the others alone
    groups = [*_group("test"), *_group("real"), *_group("bench")]
    _test_in(session, *groups, paths=[REAL_TESTS, *BENCH_TESTS], marked=marked, workers=1)


@nox.session(python=ENGINES, requires=["build"])
def engines(session: nox.Session) -> None:
    """Test tasks of Celery, of Dask and of pools of processes, with workers that are killed. Arguments go to pytest.

    With 1,000 tasks for each kind of worker, or BRIDGE_ENGINES_TASKS. It needs a redis-server for those of Celery. The
    session check leaves out the throughput, which BRIDGE_ENGINES_TABLE=1 with ``-m measures`` writes into the page.
    """
    marked = "not measures" if BUILT in os.environ else ""
    _test_in(session, *_group("engines"), paths=[ENGINES_TESTS], marked=marked, workers=1)


@nox.session(python=NEWEST, requires=["build"])
def notebook(session: nox.Session) -> None:
    """Run the notebook of the docs in JupyterLab, in the system's Chromium, by its buttons. Arguments go to pytest.

    Not part of the session check. BRIDGE_NOTEBOOK_PICTURE=/path/to/docs/pictures/notebook.png takes its picture anew.
    """
    _test_in(session, *_group("notebook"), paths=[NOTEBOOK_TESTS], workers=1)


@nox.session(python=NEWEST, requires=["build"])
def docs(session: nox.Session) -> None:
    """Build the site from the unpacked source distribution into build/site, and run every example of its pages.

    On the newest Python of the machine. So the archive is complete: it has the pages, the tests and the settings, and
    the tests of the project's files pass in it. Arguments go to pytest.
    """
    if not FOUND:
        session.error(f"none of Python {', '.join(SUPPORTED)} was found on this machine")
    _install_wheel(session, *_group("docs"))
    archive = _unpacked(session)
    site = ROOT / "build" / "site"
    shutil.rmtree(site, ignore_errors=True)
    _leave_checkout(session)
    sphinx = ["python", "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "--builder=html"]
    session.run(*sphinx, f"--doctree-dir={archive.parent / 'doctrees'}", str(archive / "docs"), str(site))
    workers = 1 if BUILT in os.environ else CORES
    pytest = ["pytest", f"--config-file={archive / 'pyproject.toml'}", f"--rootdir={archive}", f"-n{workers}"]
    environment = {"BRIDGE_TEST_WHEEL": "1", "BRIDGE_SITE": str(site)}
    session.run(*pytest, *session.posargs, str(archive / "tests" / "docs"), env=environment)
    if not session.posargs:
        session.run(*pytest, "-mnot process", str(archive / "tests" / "project"), env=environment)
    session.log(f"the site is {site / 'index.html'}")


def _unpacked(session: nox.Session) -> Path:
    """Unpack the source distribution, and return its folder."""
    (archive,) = _wheel_dir(session).glob("*.tar.gz")
    folder = Path(session.create_tmp()).resolve() / "archive"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return unpacked


@nox.session(python=OLDEST, requires=["build"])
def shell_lowest(session: nox.Session) -> None:
    """Test the shells, and GUIs in them, with the oldest IPython and ipykernel that they work with, as above.

    PySide6 stands for both bindings of Qt, which are one to IPython.
    """
    requirements = [*_group("shell"), *(each for each in _group("gui") if each.startswith("pyside6"))]
    lowest = {_lowest(each) for each in _group("shell") if each.startswith(("ipython", "ipykernel"))}
    paths = [*SHELL_TESTS, str(TESTS / "strategies" / "gui" / "test_prompt.py")]
    _test_in(session, *sorted(lowest), *requirements, paths=paths)


def _build_uwsgi(session: nox.Session) -> None:
    """Build uWSGI, of which there are no wheels; where that fails, its tests skip."""
    try:
        session.install(*_group("uwsgi"))
    except nox.command.CommandFailed:
        session.warn("no uWSGI: it needs gcc and Python's headers, apt-get install gcc libc6-dev python3-dev")


def _build_pygobject(session: nox.Session) -> None:
    """Build PyGObject, of which there are no wheels, where its headers are; elsewhere the tests that need it skip.

    Without cairo, which only drawing needs, it takes some ten seconds. pip would build pycairo first, as a requirement
    of the build and of the installed package.
    """
    headers = ["pkg-config", "--exists", "gobject-introspection-1.0"]
    if shutil.which("pkg-config") is None or subprocess.run(headers).returncode:
        session.warn("no PyGObject: it needs apt-get install libgirepository1.0-dev gcc pkg-config")
        return
    *builders, pygobject = _group("gtk")
    try:
        session.install(*builders)
        session.install("--no-deps", "--no-build-isolation", "-Csetup-args=-Dpycairo=disabled", pygobject)
    except nox.command.CommandFailed:
        session.warn("no PyGObject: it cannot be built here")


@nox.session(python=TESTED, requires=["build"])
def gui(session: nox.Session) -> None:
    """Test the shells with the newest IPython and ipykernel, GUIs, in them too, and gevent. Arguments go to pytest."""
    if session.python in ENDS:  # as tests/strategies/gui/conftest.py marks its tests
        _build_pygobject(session)
    _test_in(session, *_group("shell"), *_group("gui"), paths=[*SHELL_TESTS, *GUI_TESTS])


@nox.session(python=TESTED, requires=["build"])
def plugin(session: nox.Session) -> None:
    """Test the pytest plugin beside pytest-asyncio and pytest-twisted. Arguments go to pytest.

    These two run none of our own tests. The session check has this one on the oldest and the newest Python.
    """
    session.env["PYTEST_ADDOPTS"] = "-p no:asyncio -p no:twisted"
    _test_in(session, *_group("plugin"), paths=PLUGIN_TESTS)


@nox.session(python=TESTED, requires=["build"])
def chaos(session: nox.Session) -> None:
    """Run helpers/chaos.py on the wheel for 60 seconds, or BRIDGE_CHAOS_SECONDS; tests has 20. Arguments go to it."""
    _install_wheel(session, "psutil")
    _leave_checkout(session)
    _chaos(session, 60)


def _chaos(session: nox.Session, normally: int) -> None:
    seconds = f"--seconds={os.environ.get(CHAOS_SECONDS, normally)}"
    session.run("python", "-P", str(TESTS / "helpers" / "chaos.py"), seconds, *session.posargs)


@nox.session(requires=["build"])
def demo(session: nox.Session) -> None:
    """Run the demo out of the wheel."""
    _install_wheel(session)
    _leave_checkout(session)
    session.run("python", "-m", "bridge", "demo")


@nox.session(python=TESTED, requires=["build"])
def bench(session: nox.Session) -> None:
    """Run the benchmarks on the wheel: JSON, Markdown and pictures. Arguments go to benchmarks/run.py.

    Of one Python: nox -s bench-3.12
    """
    _install_wheel(session, *_group("bench"))
    session.run("python", "benchmarks/run.py", *session.posargs)


@nox.session(python=TESTED, requires=["build"])
def servers(session: nox.Session) -> None:
    """Put web servers under load, on the wheel, in eight minutes. Arguments go to benchmarks/run_servers.py.

    It needs wrk, redis-server and two cores. Of one Python: nox -s servers-3.12
    """
    _install_wheel(session, *_group("servers"))
    session.run("python", "benchmarks/run_servers.py", *session.posargs)
