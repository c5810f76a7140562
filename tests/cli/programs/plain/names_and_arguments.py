import sys

import __main__

print(__name__, __file__, sys.argv, sys.path[0], __main__.__file__, __main__ is sys.modules["__main__"])
print(sorted(name for name in globals() if name not in ("__annotations__",)))
