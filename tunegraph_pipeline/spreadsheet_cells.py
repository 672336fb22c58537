"""Text in CSV files that people open in a spreadsheet: no cell is to run as a formula there.

Here: marking such cells, and undoing it. Not here: writing or reading the files. The standard library alone,
because a service writes CSV too.

A program takes a cell for a formula by its first character. A quotation mark before it makes the cell text,
as OWASP advises ("CSV Injection").
"""

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")

MARKED = r"^'('*[=+\-@\t\r\n\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}])"
"""A marked cell, for a column of Polars; the group is what follows the mark."""


def harmless(cell: object) -> object:
    """A cell to write: text that a spreadsheet would run is marked, anything else as it is.

    >>> harmless("=1+1"), harmless("a=b"), harmless(-1.5)
    ("'=1+1", 'a=b', -1.5)
    """
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell
