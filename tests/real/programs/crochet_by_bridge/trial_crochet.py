"""Run crochet's tests by trial, without two that compare times, which other programs on the machine change."""

import crochet.tests.test_api as tests
from twisted.scripts.trial import run

for test in (tests.EventualResultTests.test_timeout, tests.WaitTests.test_timeoutRaises):
    test.skip = "compares times"
run()
