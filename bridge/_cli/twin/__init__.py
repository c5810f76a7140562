"""``python -m bridge twin``: write the sync twin of an async library as source.

- ``source`` reads modules as syntax trees: what they define, what they import, and what a name in them means.
- ``members`` lists what a class has, of itself and of its bases, each with the tree and the object.
- ``heads`` knows the generic types that matter: what is awaited, iterated, entered, and what contains other types.
- ``context`` says where an annotation stands, and what its value is for.
- ``types`` turns an annotation of the library into the twin's, with the code that converts a value.
- ``names`` gives each imported name one name in the written file.
- ``results`` decides what a function's twin returns, and ``plan`` which classes and functions get a twin.
- ``functions``, ``attributes``, ``specials`` and ``classes`` write the parts, ``support`` what they share, ``layout``
  breaks lines as formatters do, and ``module`` puts a file together.
- ``command`` is the command line.

The library is imported, since only Python itself knows what its decorators and metaclasses do; annotations, defaults
and overloads come out of its source, where a type that is imported for type checkers only still has its name.
"""
