"""The command: what it writes, when it refuses, and how a file that has drifted is found."""

from __future__ import annotations

import ast
import importlib
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from bridge.__main__ import main

SNAPSHOT = Path(__file__).parent / "library" / "shelf" / "sync.py"
Write = Callable[..., str]
Library = Callable[[str], str]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """A function that makes a module of some code, and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(code: str) -> str:
        name = f"library{len(list(tmp_path.glob('library*.py')))}_of_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        importlib.invalidate_caches()
        return name

    return make


@pytest.fixture
def write(capsys: pytest.CaptureFixture[str]) -> Write:
    """A function that runs the command and returns what it has printed."""

    def run(*arguments: str) -> str:
        assert main(["twin", *arguments]) == 0
        return capsys.readouterr().out

    return run


def imported(code: str, name: str = "twin") -> ModuleType:
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(code, f"<{name}>", "exec", dont_inherit=True), vars(module))
    return module


def test_writes_what_stands_beside_the_library(tmp_path: Path) -> None:
    path = tmp_path / "sync.py"
    assert main(["twin", "shelf", "--line-length", "120", "-o", str(path)]) == 0
    version, of_snapshot = (each.read_text().split("\n", 3)[2] for each in (path, SNAPSHOT))
    assert path.read_text().replace(version, of_snapshot) == SNAPSHOT.read_text()
    assert version.startswith("# Made from shelf 1.2.0 by bridge ")


def test_prints_without_an_output(write: Write) -> None:
    text = write("shelf:AsyncTicket")
    assert text.startswith('"""Sync twins of shelf')
    assert "# python -m bridge twin shelf:AsyncTicket\n" in text
    # What it returns comes with it, and nothing else does.
    assert [each.name for each in ast.parse(text).body if isinstance(each, ast.ClassDef)] == ["Ticket", "Page"]


def test_writes_the_same_again(write: Write) -> None:
    assert write("shelf") == write("shelf")


def test_each_body_is_one_call_of_a_verb() -> None:
    """A statement more tells mypy the type of a result with Any in it."""
    tree = ast.parse(SNAPSHOT.read_text())
    for cls in (each for each in tree.body if isinstance(each, ast.ClassDef)):
        for method in (each for each in cls.body if isinstance(each, ast.FunctionDef)):
            body = [each for each in method.body if not isinstance(getattr(each, "value", None), ast.Constant)]
            told = len(body) == 2 and isinstance(body[0], ast.AnnAssign) and ast.unparse(body[1]) == "return result"
            assert len(body) <= 1 or told, f"{cls.name}.{method.name}"


# --- names


def test_names_may_be_given(write: Write) -> None:
    assert "\nclass Voucher:\n" in write("shelf:AsyncTicket", "--name", "Voucher")
    text = write("shelf:AsyncTicket", "--name", "AsyncTicket=Voucher", "--name", "AsyncPage=Leaf")
    assert "def wait(self) -> Leaf:" in text


def test_a_whole_module_without_all(write: Write, library: Library) -> None:
    name = library(
        """
        from asyncio import sleep
        class AsyncThing:
            async def get(self) -> int: return 1
        class Plain: ...
        async def fetch() -> int: return 1
        async def _private() -> int: return 1
        def sync() -> int: return 1
        """
    )
    module = imported(write(name))
    assert module.__all__ == ["Thing", "fetch"]
    assert module.fetch() == module.Thing().get() == 1


def test_the_library_s_own_bridge(write: Write, library: Library) -> None:
    name = library(
        """
        import threading
        from bridge import Bridge
        bridge = Bridge("of the library")
        async def where() -> str: return threading.current_thread().name
        """
    )
    text = write(f"{name}:where", "--bridge", f"{name}:bridge")
    assert imported(text).where() == "of the library"
    importlib.import_module(name).bridge.close()


# --- bad input


BAD = {
    "no_such_module": "there is no module no_such_module",
    "shelf.no_such_module:Name": "there is no module shelf.no_such_module",
    "shelf:AsyncShelv": "shelf has no 'AsyncShelv'; did you mean shelf:AsyncShelf?",
    "shelf:": "shelf: has no name after the colon",
    "shelf/sync.py": "'shelf/sync.py' is no module's name: write package.module:Name",
    "shelf:Note": "the class shelf:Note has nothing async in it: use it as it is",
    "shelf:DEFAULT_LIMIT": "shelf:DEFAULT_LIMIT is an object of type int: "
    "a twin is written of a class, a function or a module",
    "textwrap:dedent": "the function textwrap:dedent is not async: call it as it is",
    "textwrap": "textwrap has nothing public and async in it, so there is nothing to write a twin of",
}


def refused(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that writes nothing, and return the one sentence that it says."""
    path = tmp_path / "written.py"
    assert main(["twin", *arguments, "-o", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert not path.exists()
    assert err.count("\n") == 1
    return err.removeprefix("python -m bridge twin: ").removesuffix("\n")


@pytest.mark.parametrize("name", BAD)
def test_refuses_in_one_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused([name], tmp_path, capsys) == BAD[name]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit('no')", "SystemExit: no"),
        ("raise ValueError('one\\ntwo')", "ValueError: one two"),
    ],
)
def test_a_module_that_fails_to_import(
    code: str, said: str, library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = library(code)
    assert refused([f"{name}:Name"], tmp_path, capsys) == f"{name} fails to import: {said}"


def test_two_classes_that_would_get_one_name(
    library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    name = library(
        """
        class AsyncPage:
            async def text(self) -> str: return "a"
        class Page:
            async def other(self) -> AsyncPage: return AsyncPage()
        """
    )
    said = refused([f"{name}:Page"], tmp_path, capsys)
    assert said == (
        f"the twins of {name}:Page and {name}:AsyncPage would both be called Page: "
        "give one of them another name, as by --name AsyncPage=Page2"
    )
    assert imported(write(f"{name}:Page", "--name", "AsyncPage=Page2")).Page().other().text() == "a"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shelf", "json"], "json is of another package than shelf: write a file for each"),
        (["shelf", "--name", "X"], "--name X does not say whose name it is: write --name AsyncClient=X"),
        (["shelf", "--name", "AsyncNothing=X"], "--name AsyncNothing=X names nothing that gets a twin"),
        (["shelf:AsyncPage", "--name", "a b"], "'a b' is no name for a class or a function"),
        (["shelf", "--bridge", "shelf:nothing"], "there is no bridge shelf:nothing: write package.module:name"),
    ],
)
def test_refuses_options(arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(arguments, tmp_path, capsys).startswith(said)


def test_a_folder_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["twin", "shelf:AsyncPage", "-o", str(tmp_path / "no" / "x.py")]) == 2
    assert "cannot write" in capsys.readouterr().err


# --- drift


@pytest.fixture
def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str]]:
    """A function that checks a text as if it were the file, and returns the status and what was said."""

    def check(text: str) -> tuple[int, str]:
        path = tmp_path / "sync.py"
        path.write_text(text)
        status = main(["twin", "shelf", "--line-length", "120", "-o", str(path), "--check"])
        assert path.read_text() == text
        return status, capsys.readouterr().err

    return check


Check = Callable[[str], tuple[int, str]]


def test_a_file_that_is_right(checked: Check) -> None:
    assert checked(SNAPSHOT.read_text()) == (0, "")


def test_a_formatter_and_another_version_make_no_drift(checked: Check) -> None:
    text = SNAPSHOT.read_text()
    assert checked(text.replace("# Made from shelf 1.2.0", "# Made from shelf 1.1.0"))[0] == 0
    assert checked(ast.unparse(ast.parse(text)))[0] == 0


def test_drift_is_shown(checked: Check) -> None:
    status, said = checked(SNAPSHOT.read_text().replace("limit: int = DEFAULT_LIMIT) -> str", "limit: int = 3) -> str"))
    assert status == 1
    assert "has drifted from the library; run the command in its head again" in said
    assert "limit: int=DEFAULT_LIMIT) -> str:" in said
    assert checked("def broken(")[0] == 1


def test_a_file_that_is_not_there_has_drifted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["twin", "shelf", "-o", str(tmp_path / "sync.py"), "--check"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_check_needs_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["twin", "shelf", "--check"]) == 2
    assert "--check needs the file" in capsys.readouterr().err


# --- what cannot be told, and syntax of newer Pythons


def test_what_cannot_be_told_is_any_with_a_comment(write: Write, library: Library) -> None:
    name = library(
        """
        import functools
        class AsyncThing:
            def __init__(self, given): self.given = given; self.number = 3
            async def get(self, key, *, limit=None): return key
            async def itself(self): return self
            def __getattr__(self, name): raise AttributeError(name)
            partial = functools.partial(print)
        """
    )
    text = write(f"{name}:AsyncThing")
    assert "    # Any: the library does not say the type of key, limit; what it returns.\n" in text
    assert "    def get(self, key: Any, *, limit: Any = None) -> Any:\n" in text
    assert "    # Any: the library does not say the type of given.\n" in text
    assert "    def itself(self) -> Self:\n" in text
    assert "    def number(self) -> int:\n" in text
    thing = imported(text).Thing("given")
    assert thing.get("key") == "key"
    assert thing.itself() is thing
    assert not hasattr(thing, "missing")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is that of Python 3.12")
def test_type_parameters(write: Write, library: Library) -> None:
    name = library(
        """
        from collections.abc import AsyncIterator
        class AsyncThing:
            async def get(self) -> int: return 1
        type Things[K] = dict[K, AsyncThing]
        class AsyncBox[T, *Ts]:
            def __init__(self, thing: T, *more: *Ts) -> None: self.thing = thing
            async def get(self) -> T: return self.thing
            async def pair[V: AsyncThing](self, value: V) -> tuple[T, V]: return self.thing, value
            async def things(self) -> Things[str]: return {"a": AsyncThing()}
        class AsyncThingBox(AsyncBox[AsyncThing]):
            async def each(self) -> AsyncIterator[AsyncThing]: yield self.thing
        async def call[**P, R](box: AsyncBox[R]) -> R: return await box.get()
        """
    )
    text = write(name)
    assert "class Box[T, *Ts]:\n" in text
    assert "    def pair[V: Thing](self, value: V) -> tuple[T, V]:\n" in text
    assert "    def things(self) -> dict[str, Thing]:\n" in text
    assert "class ThingBox(Box[Thing]):\n" in text
    assert "def call[**P, R](box: Box[R] | AsyncBox[R]) -> R:\n" in text
    twin = imported(text)
    box = twin.ThingBox(twin.Thing())
    assert box.get().get() == 1
    assert [each.get() for each in box.each()] == [1]
    assert box.things()["a"].get() == 1


def test_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["twin", "--help"])
    assert "write their sync twins as source" in capsys.readouterr().out
