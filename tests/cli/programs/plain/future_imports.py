from __future__ import annotations


def f(x: unknown): ...  # noqa: F821 - an annotation is not evaluated here


print(f.__annotations__)
