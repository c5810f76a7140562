"""Runs the bench command with three rows.

Arguments: the name of a change, which is a function here; then the plot, the file of results, and the one to compare
with. An empty argument is none of them.
"""

import importlib.util
import sys
from pathlib import Path

from bridge._cli.bench import calls, command, quick
from bridge._cli.bench.model import Group, Row, Table

whole = quick.group


def fewer():
    names = {"at_once/floor", "at_once/run_coroutine_threadsafe", "at_once/block_on"}
    tables = [table for table in whole().tables if any(row.name in names for row in table.rows)]
    return Group("quick", [shortened(table, names) for table in tables])


def shortened(table, names):
    return Table(table.title, [row for row in table.rows if row.name in names], table.references, table.threads)


def without_matplotlib():
    sys.modules["matplotlib"] = None


def broken_row():
    row = fewer().tables[0].rows[0]
    broken = Row("unknown/row", "a row that no process has", row.process, row.prepare)
    quick.group = lambda: Group("quick", [Table("t", [broken], {})])


def without_crochet():
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda name, package=None: None if name == "crochet" else find(name, package)
    assert "crochet's wait_for" in calls.absent(), calls.absent()


quick.group = fewer
change, *paths = sys.argv[1:]
if change:
    globals()[change]()
sys.exit(command.main(*[Path(each) if each else None for each in paths], 1))
