"""Signatures of sync views, for ``help()`` and editors."""

from __future__ import annotations

import collections.abc
import contextlib
import inspect
import sys
from collections.abc import Callable
from typing import Any, get_args, get_origin

_ASYNC_TO_SYNC: dict[Any, Any] = {
    collections.abc.AsyncIterable: collections.abc.Iterator,
    collections.abc.AsyncIterator: collections.abc.Iterator,
    collections.abc.AsyncGenerator: collections.abc.Iterator,
    contextlib.AbstractAsyncContextManager: contextlib.AbstractContextManager,
}
_RESULT_AT = {
    "Coroutine": 2,
    "Awaitable": 0,
    "Deferred": 0,
    "Future": 0,
    "Task": 0,
}  # index of the type argument


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function or a class, also if an annotation names something that is not there."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def sync_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the function's signature, with the type that a blocking call returns as its return annotation."""
    signature = signature_of(function)
    annotation = signature.return_annotation
    if annotation is signature.empty or inspect.iscoroutinefunction(function):
        return signature
    innermost: Any = inspect.unwrap(function)
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, getattr(innermost, "__globals__", {}))
        except Exception:  # a name that is imported for type checkers only
            return signature
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    if origin in _ASYNC_TO_SYNC:
        sync = _ASYNC_TO_SYNC[origin]
        if inspect.isasyncgenfunction(innermost) and not inspect.isasyncgenfunction(function):  # asynccontextmanager
            sync = contextlib.AbstractContextManager
        annotation = sync[args[0]] if args else sync
    elif getattr(origin, "__name__", None) in _RESULT_AT:
        index = _RESULT_AT[origin.__name__]
        annotation = args[index] if index < len(args) else Any
    else:
        return signature
    return signature.replace(return_annotation=annotation)
