"""What a written title or credit says besides the song: the issue it is on, and guests.

Here: taking that out of one name, and names that name nothing. Not here: the key of a name as it is
(`song_ids.name_key`), transliteration (`graph.name_keys`), or which songs are one recording
(`graph.recordings`). The standard library alone: a query finds songs by such names too.

A remaster, a mono transfer, a deluxe edition or a guest in the title is the same recording written otherwise.
Live, acoustic, demo, remix, edit, instrumental, karaoke and cover name another recording. So a remark is
taken out only if every word of it is known; a remark with any other word stays.
"""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

NOBODY = re.compile("unknown(?: artist)?|various(?: artists)?|va|no artist|anonymous|traditional|artist|n a")
"""Matches whole keys (`song_ids.name_key`) of artists that are nobody: with a title they are no song."""
UNTITLED = re.compile(r"unknown|untitled|no title|title|(?:audio )?(?:track|titel|piste) ?\d*|\d{1,2}")
"""Matches whole keys of titles that are none."""

_ISSUE = re.compile(
    "remaster(?:ed|s|ing|t|izad[oa]|isee?)?|rimasterizzat[oa]|mono|stereo|deluxe|bonus|explicit|anniversary"
    "|expanded|reissue|official|lyrics?|audio"
)
"""One such word makes a remark one on the issue, if all its others are such words too or of `_BESIDES`."""
_BESIDES = re.compile(
    "version|versao|edition|edicion|edicao|album|lp|digital(?:ly|mente)?|bit|track|song|super|special"
    "|collectors?|the|a|in|en|hd|hq|4k|music|video|clip|visuali[sz]er|new(?:ly)?|original"
    r"|\d{1,4}(?:st|nd|rd|th|er|eme)?"
)
_PHRASES = frozenset({"album version", "lp version", "official video", "hd", "hq"})
_BRACKETED = re.compile(r"\s*(?:\(([^()]*)\)|\[([^\[\]]*)\])")
_DASH = re.compile(r"\s+[-\u2013\u2014]\s+|\s*[;]\s+")
_GUESTS_IN_BRACKETS = re.compile(r"\s*(?:(?i:feat|featuring|ft)\b\.?|with\b|w/)\s*(\S.*)")
_GUESTS = re.compile(
    r"\s(?:feat|featuring|ft)\b\.?\s+([^()\[\]]+?)(?=\s*[(\[]|\s+[-\u2013\u2014]\s|$)", re.IGNORECASE
)
REMARK = r"(?i)[(\[;]|\s[-–—]\s|\s(?:feat|ft)"
"""Found in every name that `plain_title` or `plain_credit` changes; a pattern of any library."""
CREDIT_MARKS = r"(?i)\s*[,;]\s+|\s+(?:&|\+|/|x|and|feat\.?|ft\.?|featuring|with|vs\.?)\s+"
"""What may stand between the artists of a credit; a pattern of any library."""
_CREDIT_MARKS = re.compile(CREDIT_MARKS)
_WORD = re.compile(r"\w+")


class PlainName(NamedTuple):
    """A title or credit without remarks on its issue and guests, and the guests as written, "" if none."""

    name: str
    guests: str = ""


def credited(credit: str, n: int) -> list[str]:
    """The names of the ``n`` artists of a credit, or the credit as one name where it cannot be told apart.

    >>> credited("Ann & Bo feat. Cy", 3), credited("Simon & Garfunkel", 1)
    (['Ann', 'Bo', 'Cy'], ['Simon & Garfunkel'])
    """
    names = _CREDIT_MARKS.split(credit)
    return names if len(names) == n else [credit]


def plain_title(title: str) -> PlainName:
    """A title without remarks on the issue and without guests.

    >>> plain_title("Blue Harbour (feat. Ida Quist) - 2011 Remaster")
    PlainName(name='Blue Harbour', guests='Ida Quist')
    >>> plain_title("Blue Harbour (Live) [Remastered]").name
    'Blue Harbour (Live)'
    """
    guests: list[str] = []

    def without(found: "re.Match[str]") -> str:
        remark = found[1] if found[1] is not None else found[2]
        if (named := _GUESTS_IN_BRACKETS.fullmatch(remark)) is not None:
            guests.append(named[1])
            return ""
        return "" if _is_of_issue(remark) else found[0]

    name = _BRACKETED.sub(without, title)
    for dash in _DASH.finditer(name):
        if _is_of_issue(name[dash.end() :]):
            name = name[: dash.start()]
            break
    name = _without_guests(name, guests)
    return PlainName(name.strip(), " ".join(guests)) if name.strip() else PlainName(title)


def plain_credit(credit: str) -> PlainName:
    """Who leads a credit that is one text, and the guests it names.

    >>> plain_credit("The Lanterns feat. Ida Quist")
    PlainName(name='The Lanterns', guests='Ida Quist')
    """
    guests: list[str] = []

    def without(found: "re.Match[str]") -> str:
        named = _GUESTS_IN_BRACKETS.fullmatch(found[1] if found[1] is not None else found[2])
        guests.extend([] if named is None else [named[1]])
        return found[0] if named is None else ""

    name = _without_guests(_BRACKETED.sub(without, credit), guests).strip()
    return PlainName(name, " ".join(guests)) if name else PlainName(credit)


def _without_guests(name: str, guests: list[str]) -> str:
    found = _GUESTS.search(name)
    if found is None or not name[: found.start()].strip():
        return name
    guests.append(found[1])
    return name[: found.start()] + name[found.end() :]


@lru_cache(maxsize=1 << 14)  # most titles with a remark have one of a few
def _is_of_issue(remark: str) -> bool:
    letters = unicodedata.normalize("NFKD", remark.casefold())
    words = _WORD.findall(
        "".join(one for one in letters if not unicodedata.combining(one) and one not in "'\u2019")
    )
    if " ".join(words) in _PHRASES:
        return True
    issue = [word for word in words if _ISSUE.fullmatch(word)]
    return bool(issue) and all(word in issue or _BESIDES.fullmatch(word) for word in words)
