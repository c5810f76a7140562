"""Twisted on the loop: the reactor and its adoption, the refusal of wrong threads, conversion, children, logging."""
