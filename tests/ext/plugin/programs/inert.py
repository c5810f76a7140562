"""Says what is loaded, and whether the plugin is."""

import json
import sys
from pathlib import Path


def test_modules():
    Path("modules.json").write_text(json.dumps(list(sys.modules)))
