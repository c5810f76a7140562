"""Every private name of others that the package stands on: one module a library, each with a table of its names.

A private name may change with any release of its library. So each has a row here: where it is, how it is used, which
ability needs it. :func:`~bridge._private.abilities.lost` compares the rows of one ability with the library that is
installed, once a process and when the ability is first needed. A name that is gone, or a function that needs an
argument which we do not pass, switches that ability off; the rest goes on. An optional parameter is no change: what
overrides a function passes on what it does not know.

tests/private/test_private_names.py runs the package on libraries in which each name is another one, and on such in
which each function has one more parameter. Another test there finds the private names in the package without a row.

Nothing is imported here but the standard library's lightest modules; a library is looked up when its rows are compared.
"""
