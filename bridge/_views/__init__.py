"""Sync views of async objects: blocking(), iterate() and enter()."""
