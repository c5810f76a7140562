try:
    1 / 0  # noqa: B018 - it raises
except ZeroDivisionError as error:
    raise LookupError("no such thing") from error
