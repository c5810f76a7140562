import sys

sys.excepthook = lambda *args: print("hooked", args[0].__name__)
raise LookupError
