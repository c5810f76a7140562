"""crochet's own tests of what it promises, from its distribution, run on bridge.ext.crochet."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from paths import PACKAGES

pytest.importorskip("crochet")

SHIM = Path(__file__).parent / "programs" / "crochet_by_bridge"
# The others are of its classes EventLoop, ResultRegistry, ResultStore, ThreadLogObserver, Watchdog and the like.
API = [
    *("EventualResultTests", "RunInReactorTests", "WaitTests"),
    *("PublicAPITests.test_retrieve_result", "PublicAPITests.test_eventloop_api_reactor"),
]
TESTS = [
    *(f"crochet.tests.test_api.{name}" for name in API),
    "crochet.tests.test_process",
    "crochet.tests.test_setup.ReactorImportTests",
    "crochet.tests.test_setup.LoggingTests",
]


@pytest.mark.process
@pytest.mark.any_python
@pytest.mark.timeout(170)  # crochet's tests start ten processes, one after the other
def test_crochets_own_tests_pass(tmp_path: Path) -> None:
    # PYTHONSAFEPATH: its programs run where crochet itself is installed, and are to import the other one.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SHIM), PACKAGES]), "PYTHONSAFEPATH": "1"}
    ended = subprocess.run(
        [sys.executable, str(SHIM / "trial_crochet.py"), *TESTS],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )
    # Two skip themselves, one on each Python 3, and one on each Twisted that we support. The program skips two more.
    assert re.search(r"^PASSED \(skips=4, successes=55\)$", ended.stdout, re.MULTILINE), ended.stdout
