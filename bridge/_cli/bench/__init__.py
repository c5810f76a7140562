"""Benchmarks: the command ``python -m bridge bench``, and the parts of the whole suite in benchmarks/.

A *work* is what a caller waits for. A *peer* is a library that can wait for it. A *row* is one peer with one work.

The modules, highest first. A module imports only from lines below its own::

    command     python -m bridge bench          child       a process that measures its rows on request
    quick       the rows of the command
    calls       makes rows and tables from peers and works
    threads     peers that call a loop in another thread, and bridge
    inside      peers that block in the loop's own thread, and bridge
    way         the interface of a peer, and the stopwatch
    works       the works
    plot        pictures                        compare     compares two results
    tables      text, Markdown
    rounds      measures the processes in turns
    results     the measured values, and their file
    model       Row, Table, Curves, Group, Host
    machine     describes the machine           ranks       tests whether two samples differ

Outside of this package only ``bridge.__main__`` imports it, when the command is given.
"""
