def function():
    raise LookupError("no such thing")


function()
