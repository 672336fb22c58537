"""The index of song names, as arrays of a bundle. `search` queries it.

Here: normalising names, the codes that stand for them, and building the index. Not here: searching in it
(`search`).
"""

import hashlib
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.lake.array_spec import AnyTexts
from tunegraph_pipeline.recommend.artists import Artists

_MAX_FIELD, _MAX_ARTISTS = 200, 10
"""Limits of what is indexed per song: letters of a name, and artists."""
_BLOCK = 50_000  # songs indexed at a time, which limits the memory needed

FIELD = "\n"  # ends each field of a song's text; no field contains it
_FIELD_CODE, _SPACE_CODE = ord(FIELD), ord(" ")
_WHOLE = np.uint64(1 << 63)  # marks the code of a whole field; three letters of 21 bits leave it free

_AS_LATIN = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h", "$": "s"}
    | {"&": " and ", "'": "", "’": "", "‘": "", "`": "", "ʼ": ""}
)
_INITIALS = re.compile(r"(?<=\b\w)\.(?=\w\b)")  # the dots of r.e.m.

_DIGITS = "abcdefghijklmnopqrstuvwxyz0123456789"
DIGIT_OF = {letter: digit for digit, letter in enumerate(_DIGITS, start=1)}  # 0 is the end of the word
BASE, WORD = len(_DIGITS) + 1, 12
WEIGHT = np.array([BASE ** (WORD - 1 - at) for at in range(WORD)], dtype=np.int64)
"""A word of up to ``WORD`` letters and digits is a number in base ``BASE`` with place values ``WEIGHT``."""


def normalise(text: str) -> str:
    """The text as it is compared: lower case, no accents, words of letters and digits with one space between.

    Text without letters and digits only becomes lower case: some songs are called ÷ or !!!.

    >>> normalise("Beyoncé - Déjà Vu (feat. JAY-Z)"), normalise("R.E.M."), normalise("Ke$ha & Øya")
    ('beyonce deja vu feat jay z', 'rem', 'kesha and oya')
    """
    lower = text.casefold()
    plain = _INITIALS.sub("", lower).translate(_AS_LATIN)
    if not plain.isascii():
        parts = unicodedata.normalize("NFKD", plain)
        plain = "".join(letter for letter in parts if not unicodedata.combining(letter)).casefold()
    words = "".join(letter if letter.isalnum() else " " for letter in plain).split()
    return " ".join(words or lower.split())


def search_arrays(
    track_ids: AnyTexts,
    names: AnyTexts,
    by: Artists,
    popularity: NDArray[np.integer],
    canonical: NDArray[np.integer],
) -> dict[str, NDArray[Any]]:
    """The index, as arrays of a bundle of N tracks; the same input gives the same arrays.

    The parameters are as in `BundleContent`. A track whose name is "" is found by its id.

    ``search_tracks`` int32[M] is the track at each *place*, the most popular first: one place per recording,
    and one more for each further name it has. ``search_codes`` uint64[C] ascending, ``search_indptr``
    int64[C + 1] and ``search_places`` int32, ascending within a code, are the places at which each code
    occurs. ``search_words`` int64[W] ascending are the words of up to twelve Latin letters and digits, as
    numbers, and ``search_word_sums`` int64[W + 1] the running sum of their counts.
    """
    of_recording = popularity[canonical].astype(np.int64)
    has_several_ids = np.bincount(canonical, minlength=len(canonical)) > 1
    tracks = array("i")
    found: list[tuple[NDArray[np.uint64], NDArray[np.int32]]] = []
    counts: Counter[str] = Counter()
    seen: set[tuple[int, str]] = set()
    # Stable: on a tie the smaller index comes first, so the canonical track precedes the recording's others.
    order = np.argsort(-of_recording, kind="stable")
    for start in range(0, len(order), _BLOCK):
        first, texts = len(tracks), []
        for track in order[start : start + _BLOCK].tolist():
            artists = [by.names[artist] for artist in by.indices[by.indptr[track] : by.indptr[track + 1]]]
            fields = fields_of(names[track] or track_ids[track], artists)
            text = "".join(f"{field}{FIELD}" for field in fields)
            recording = int(canonical[track])
            if has_several_ids[recording]:
                if (recording, text) in seen:
                    continue
                seen.add((recording, text))
            tracks.append(track)
            texts.append(text)
        found.append(_codes_of(texts, first))
        counts.update(word for text in texts for word in set(text.split()))
    codes, indptr, places = _inverted(found)
    words, sums = _words(counts)
    return {
        "search_tracks": np.array(tracks, dtype=np.int32),
        "search_codes": codes,
        "search_indptr": indptr,
        "search_places": places,
        "search_words": words,
        "search_word_sums": sums,
    }


def fields_of(name: str, artists: Sequence[str]) -> list[str]:
    """The normalised texts of a song: its name, and each artist."""
    texts = (name, *artists[:_MAX_ARTISTS])
    return [field for text in texts if (field := normalise(text[:_MAX_FIELD])[:_MAX_FIELD].strip())]


def codes_typed(text: str) -> set[int]:
    """The codes of a query, whose last word may be unfinished, and which may be a whole field."""
    letters = "  " + text.replace(" ", "  ")
    triples = {letters[at : at + 3] for at in range(len(letters) - 2)}
    triples |= {f"{text[-1]} ", f"  {text}"[-2:] + " ", FIELD + f"{text} "[:2], f" {text}"[-2:] + FIELD}
    codes = {
        ord(triple[0]) << 42 | ord(triple[1]) << 21 | ord(triple[2])
        for triple in triples
        if len(triple) == 3 and triple[1:] != "  "
    }
    return codes | {_whole_code(text)}


def _whole_code(field: str) -> int:
    digest = hashlib.blake2b(field.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") | int(_WHOLE)


def _inverted(
    blocks: list[tuple[NDArray[np.uint64], NDArray[np.int32]]],
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
    """Codes, ascending; the offsets of their places; the places. Takes the blocks of `_codes_of`, and empties
    the list."""
    unique = [np.unique(codes) for codes, _ in blocks]
    vocabulary = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *unique]))
    # One number for each code and place, so that one sort groups the places by code.
    pairs = np.empty(sum(len(codes) for codes, _ in blocks), dtype=np.int64)
    filled = len(pairs)
    while blocks:  # each is freed once read: together they are larger than the index
        codes, places = blocks.pop()
        part = pairs[filled - len(codes) : filled]
        part[:] = np.searchsorted(vocabulary, codes)
        part <<= 32
        part |= places
        filled -= len(codes)
    pairs.sort()
    indptr = np.searchsorted(pairs, np.arange(len(vocabulary) + 1, dtype=np.int64) << 32)
    return vocabulary, indptr, pairs.astype("<i8", copy=False).view("<i4")[::2].copy()  # the lower halves


def _codes_of(texts: list[str], first: int) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The distinct codes of each text, with the place of the text; the first text is at ``first``."""
    spaced = [
        "".join(f"  {field.replace(' ', '  ')} {FIELD}" for field in text.split(FIELD)[:-1]) for text in texts
    ]
    letters = np.frombuffer("".join(spaced).encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    place = np.repeat(np.arange(len(texts), dtype=np.int32), [len(text) for text in spaced])
    one, two, three = letters[:-2], letters[1:-1], letters[2:]
    inside = (one != _FIELD_CODE) & (two != _FIELD_CODE) & (three != _FIELD_CODE)
    inside &= (two != _SPACE_CODE) | (three != _SPACE_CODE)
    ends = np.flatnonzero(letters == _FIELD_CODE)
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    wholes = [_whole_code(field) for text in texts for field in text.split(FIELD)[:-1]]
    codes = np.concatenate(
        [
            _triple(one[inside], two[inside], three[inside]),
            # The letters of a field without the two spaces before and the one after it.
            _triple(np.uint64(_FIELD_CODE), letters[starts + 2], letters[starts + 3]),
            _triple(letters[ends - 3], letters[ends - 2], np.uint64(_FIELD_CODE)),
            np.array(wholes, dtype=np.uint64),
        ]
    )
    places = np.concatenate([place[:-2][inside], place[ends], place[ends], place[ends]])
    order = np.lexsort((places, codes))
    codes, places = codes[order], places[order]
    new = np.ones(len(codes), dtype=np.bool_)
    new[1:] = (codes[1:] != codes[:-1]) | (places[1:] != places[:-1])
    return codes[new], places[new] + np.int32(first)


def _triple(
    one: NDArray[np.uint64] | np.uint64, two: NDArray[np.uint64], three: NDArray[np.uint64] | np.uint64
) -> NDArray[np.uint64]:
    code: NDArray[np.uint64] = one << np.uint64(42) | two << np.uint64(21) | three
    return code


def _words(counts: Counter[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The words that have a number, ascending, and the running sum of the number of texts each is in, which
    ``counts`` has."""
    numbered = sorted((number, counts[word]) for word in counts if (number := number_of(word)) is not None)
    sums = np.zeros(len(numbered) + 1, dtype=np.int64)
    np.cumsum([count for _, count in numbered], out=sums[1:])
    return np.array([number for number, _ in numbered], dtype=np.int64), sums


def number_of(word: str) -> int | None:
    """A word as a number, in alphabetical order; None if it has over twelve letters or others than Latin."""
    if not 0 < len(word) <= WORD:
        return None
    number = 0
    for letter in word:
        digit = DIGIT_OF.get(letter)
        if digit is None:
            return None
        number = number * BASE + digit
    shift: int = BASE ** (WORD - len(word))
    return number * shift


def word_of(number: int) -> str:
    letters = []
    for weight in WEIGHT.tolist():
        digit, number = divmod(number, weight)
        if not digit:
            break
        letters.append(_DIGITS[digit - 1])
    return "".join(letters)
