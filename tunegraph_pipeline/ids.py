"""What ids of users and of songs have in common: one Unicode form, and a limit on their length.

Here: pure functions of one id. Not here: the ways in which services write the ids of songs (`song_ids`), or
columns of ids (`lake.id_forms`). The standard library alone: a query reads ids too.

Unicode can write most accented letters in two ways: "é" as one character, or as "e" and an accent, as file
names of macOS have it. Ids are composed (NFC) where they enter: in imports, crawls, feedback, requests and
commands. What earlier versions stored in another form is still found.
"""

from collections.abc import Sequence
from unicodedata import normalize

MOST_ID_BYTES = 1_024
"""The longest id that can be imported and asked for, in bytes of UTF-8."""


def composed(text: str) -> str:
    """The one form of an id.

    >>> len(composed("e" + chr(0x301)))
    1
    """
    return text if text.isascii() else normalize("NFC", text)


def forms_of(text: str) -> tuple[str, ...]:
    """An id in all forms in which it may be stored, the composed one first."""
    if text.isascii():
        return (text,)
    return tuple(dict.fromkeys((normalize("NFC", text), text, normalize("NFD", text))))


def all_composed(ids: Sequence[str]) -> list[str]:
    """Ids composed, except where one that is composed is among them already: that one has the data."""
    known = set(ids)
    return [one if (form := composed(one)) in known else form for one in ids]


def is_too_long(text: str) -> bool:
    """Whether an id is longer than `MOST_ID_BYTES`."""
    return 4 * len(text) > MOST_ID_BYTES and len(text.encode(errors="surrogatepass")) > MOST_ID_BYTES
