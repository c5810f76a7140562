"""A program: write the twins of real clients, and let ruff, mypy and pyright check them, strictly.

python tests/typing/check_twins.py FOLDER

These clients pass the checkers themselves. asyncpg and redis do not: much of them is without annotations.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TWINS = {
    "aiohttp": ["aiohttp:ClientSession"],
    "httpx": ["httpx:AsyncClient"],
    "mcp": ["mcp:ClientSession", "mcp.client.streamable_http:streamable_http_client"],
    "treq": ["treq"],
}
# pyright knows no types of treq's response, whose attributes come out of an interface of zope's.
FOR_PYRIGHT = [f"twin_of_{name}.py" for name in TWINS if name != "treq"]


def main(folder: Path) -> int:
    """Write the twins, run the checkers, and return the number of those that have failed."""
    folder.mkdir(exist_ok=True)
    failed = 0
    for name, of in TWINS.items():
        path = folder / f"twin_of_{name}.py"
        subprocess.run([sys.executable, "-m", "bridge", "twin", *of, "-o", str(path)], cwd=ROOT, check=True)
        own = f'lint.isort.known-first-party=["{name}"]'  # as in the client's own project
        failed += run(folder, "ruff", "check", "--isolated", "--no-cache", "--config", own, str(path))
        failed += run(folder, "ruff", "format", "--isolated", "--no-cache", "--check", str(path))
    (folder / "mypy.ini").write_text(f"[mypy]\nstrict = true\nmypy_path = {ROOT}\n", encoding="utf-8")
    (folder / "pyrightconfig.json").write_text(
        json.dumps({"typeCheckingMode": "strict", "include": FOR_PYRIGHT, "extraPaths": [str(ROOT)]}),
        encoding="utf-8",
    )
    files = [str(folder / f"twin_of_{name}.py") for name in TWINS]
    failed += run(folder, "mypy", f"--config-file={folder / 'mypy.ini'}", f"--cache-dir={folder / 'cache'}", *files)
    failed += run(folder, "pyright", "--pythonpath", sys.executable, "-p", str(folder))
    return failed


def run(folder: Path, *command: str) -> bool:
    """Run a checker, away from our own code, and return whether it has found anything."""
    print(*command[:2], command[-1], flush=True)
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, check=False).returncode != 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
