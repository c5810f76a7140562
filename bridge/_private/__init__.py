"""Tables of every private name of other libraries that the package uses, one module for each library.

A private name may change with any release of its library. So each has a row: where it is, how it is used, and which
ability needs it. :func:`~bridge._private.abilities.lost` compares the rows of one ability with the installed library.
That happens once in a process, when the ability is first needed. If a name is gone, or a function needs an argument
that we do not pass, that ability is off, and everything else goes on. A new optional parameter switches nothing off: an
override passes on the arguments that it does not know.

tests/private/test_private_names.py runs the package on libraries in which each name is renamed, and on libraries in
which each function has one more parameter. Another test there finds private names in the package that have no row.

These modules import only the lightest modules of the standard library. A library is imported when its rows are
compared.
"""
