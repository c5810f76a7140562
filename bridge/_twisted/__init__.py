"""Twisted on the loop: the reactor and its adoption, the thread guard, conversion of Deferreds, children, logging."""
