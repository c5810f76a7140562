"""Benchmarks: what ``python -m bridge bench`` runs, and what the whole suite in benchmarks/ is built from.

Highest first; a module imports only from lines below its own::

    command     python -m bridge bench          child       a process that holds rows, and measures when it is told to
    quick       the rows of the command
    calls       rows and tables out of peers and works
    threads     peers that call a loop in another thread, and ours
    inside      peers that block in the loop's own thread, and ours
    way         how a peer waits, and the stopwatch
    works       what is waited for
    plot        pictures                        compare     two results against each other
    tables      text, Markdown
    rounds      processes that are measured in turns
    results     what was measured, and its file
    model       Row, Table, Curves, Group, Host
    machine     where it was measured           ranks       whether two samples differ

Nothing outside of this package imports it but ``bridge.__main__``, when the command is given.
"""
