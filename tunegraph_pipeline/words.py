"""Words for people: numbers of things, and what pydantic says of a value.

Here: pure functions of text. Not here: errors (`errors`), or how a terminal shows them (`cli.show`).
"""

import re


def counted(n: int, one: str, several: str = "") -> str:
    """A number of things: ``one`` of them in words, and ``several`` where that is more than an s.

    >>> counted(1, "user"), counted(1200, "user"), counted(2, "user is", "users are")
    ('1 user', '1,200 users', '2 users are')
    """
    return f"{n:,} {one if n == 1 else several or one + 's'}"


_PLAIN = [
    (r"^Value error, ", ""),
    (r"^Input should be greater than or equal to ", "has to be at least "),
    (r"^Input should be less than or equal to ", "has to be at most "),
    (r"^Input should be greater than ", "has to be above "),
    (r"^Input should be less than ", "has to be below "),
    (r"^Input should be a valid integer.*", "has to be a whole number"),
    (r"^Input should be a valid number.*", "has to be a number"),
    (r"^Input should be a valid boolean.*", "has to be true or false"),
    (r"^Input should be a valid string.*", "has to be a text"),
    (r"^Input should be a valid (list|array).*", "has to be a list"),
    (r"^Input should be (a valid dictionary|an object).*", "has to be an object"),
    (r"^Input should be ", "has to be "),
    (r"^String should have at most (\d+) characters?$", r"may have at most \1 characters"),
    (r"^String should have at least 1 character$", "may not be empty"),
    (r"^List should have at most (\d+) items? after validation, not .*", r"may have at most \1 items"),
    (r"^Extra inputs are not permitted$", "is not known here"),
    (r"^Field required$", "is missing"),
    (r" does not match the formats '%Y-%m-%d'\.$", " is no day; write it as YYYY-MM-DD"),
]


def in_plain_words(problem: str) -> str:
    """What pydantic says of a value, in words that go on from the name of the value.

    >>> in_plain_words("Input should be greater than or equal to 1")
    'has to be at least 1'
    """
    for words, plain in _PLAIN:
        problem = re.sub(words, plain, problem)
    return problem
