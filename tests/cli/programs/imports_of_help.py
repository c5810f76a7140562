"""Shows a help, and tells which of the large libraries that has imported. Arguments: those of the command line."""

import sys

from bridge.__main__ import main

try:
    main(sys.argv[1:])
except SystemExit:
    print("imported:", {"asyncio", "twisted", "anyio"} & set(sys.modules))
