"""Who waits for whom: reports of calls that wait long, and dump()."""
