"""A bound on how deeply JSON from outside may nest, checked on its bytes before it is parsed.

Here: counting the levels. Not here: parsing, or what a caller answers where a document nests too deep. How
deep `json` itself goes depends on the version of Python, so that without this one version would accept a
document that another refuses. The standard library alone, because the Lambda handler imports this.
"""

import re

DEEPEST_NESTING = 100
"""Levels of arrays and objects; documents of real services and exports have about ten."""

# One match a bracket, with all text and strings before it: a match a string would take as long as parsing.
_UP_TO_A_BRACKET = re.compile(rb'(?:[^][{}"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?)*+([][{}]|\Z)', re.DOTALL)


class NestingError(ValueError):
    """JSON that nests deeper than is read."""


def check_nesting(document: bytes, deepest: int = DEEPEST_NESTING) -> None:
    """Raise NestingError where a JSON document nests deeper than ``deepest`` levels.

    Brackets in strings do not count. The levels of bytes that are not JSON may be counted wrongly; `json`
    rejects those.
    """
    if document.count(b"[") + document.count(b"{") <= deepest:
        return
    depth = 0
    for match in _UP_TO_A_BRACKET.finditer(document):
        bracket = match[1]
        if bracket in (b"[", b"{"):
            depth += 1
            if depth > deepest:
                raise NestingError(f"JSON nested deeper than {deepest} levels")
        elif bracket:
            depth -= 1
