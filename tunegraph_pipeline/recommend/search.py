"""Songs by what somebody types: name, artist, both, or an id, with the errors that typing brings.

Here: the index of the names, which a bundle holds among its arrays, and looking in it. Not here: what a song
then shows (`recommender`), or which songs may be shown (the service).

Two steps. A shortlist comes from an inverted index of *codes*: of every three letters of every word, of where
a name begins and ends, and of names as a whole; the rarer a code, the more it says. Then the shortlist alone
is compared letter by letter: fewest errors first, whole names before beginnings of names before names that
hold the text somewhere, and the more popular song on a tie. Where nothing fits without an error, words that
no name holds are replaced by known ones one error away, and their shortlists join.

The index is arrays, so it is mapped, checked and shared between workers as the rest of the bundle is, and a
query has a bounded cost: beyond a number of entries the most frequent codes are not read. (SQLite's full text
over the same three letters scores every song that has any of them: at a million songs it takes twenty to
fifty times as long, and finds fewer; see `benchmarks/search.py`.)
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tunegraph_pipeline.recommend.bundle import Bundle

_MAX_TYPED, _MAX_LETTERS = 300, 100
"""What is read of a query, before and after it is normalised: more than a title and its artists have."""
_MAX_FIELD, _MAX_ARTISTS = 200, 10
"""What is indexed of a song: so many letters of a name, and so many of those who made it."""
_SHORTLIST = (64, 600_000)
"""How many songs it has, and how many entries of the index are read for it: a few milliseconds' worth."""
_SHORTLIST_RESPELLED = (12, 200_000)
_MAX_RESPELLINGS = 6
_WORST = 0.34  # the share of the letters that may be wrong ...
_FARTHER = 1  # ... and how many more than in the song that fits best
_BLOCK = 50_000  # songs indexed at a time, which bounds what making the index takes

_FIELD = "\n"  # ends each field of a song's text, and is in none
_FIELD_CODE, _SPACE_CODE = ord(_FIELD), ord(" ")
_WHOLE = np.uint64(1 << 63)  # marks the code of a whole field; three letters of 21 bits leave it free

_AS_LATIN = str.maketrans(
    {"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h", "$": "s"}
    | {"&": " and ", "'": "", "’": "", "‘": "", "`": "", "ʼ": ""}
)
_INITIALS = re.compile(r"(?<=\b\w)\.(?=\w\b)")  # the dots of r.e.m.
_SPOTIFY_TRACK = re.compile(r"(?:spotify:track:|open\.spotify\.com/(?:intl-\w+/)?track/)(\w+)")

_DIGITS = "abcdefghijklmnopqrstuvwxyz0123456789"
_DIGIT_OF = {letter: digit for digit, letter in enumerate(_DIGITS, start=1)}  # 0 is the end of the word
_BASE, _WORD = len(_DIGITS) + 1, 12
_WEIGHT = np.array([_BASE ** (_WORD - 1 - at) for at in range(_WORD)], dtype=np.int64)


def normalise(text: str) -> str:
    """What of a name counts when it is typed: lower case, no accents, words of letters and digits, one space.

    Text without letters and digits is kept as it is, in lower case: some songs are called ÷ or !!!.

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
    track_ids: Sequence[str],
    names: Sequence[str],
    artist_indptr: NDArray[np.integer],
    artist_indices: NDArray[np.integer],
    artist_names: Sequence[str],
    popularity: NDArray[np.integer],
    canonical: NDArray[np.integer],
) -> dict[str, NDArray[Any]]:
    """The index, as arrays of a bundle of N tracks; the same input gives the same arrays.

    The parameters are as in `BundleContent` and `Artists`. A track whose name is "" is found by its id.

    ``search_tracks`` int32[M] is the track at each *place*, the most popular first: a place a recording, and
    one more for each other name it has. ``search_codes`` uint64[C] ascending, ``search_indptr`` int64[C + 1]
    and ``search_places`` int32, ascending within a code, say at which places each code occurs.
    ``search_words`` int64[W] ascending are the words of up to twelve Latin letters and digits, as numbers,
    and ``search_word_sums`` int64[W + 1] sums up how often they occur.
    """
    of_recording = popularity[canonical].astype(np.int64)
    under_many = np.bincount(canonical, minlength=len(canonical)) > 1
    bounds = artist_indptr.tolist()
    tracks: list[int] = []
    texts: list[str] = []
    seen: set[tuple[int, str]] = set()
    # Stable: on a tie the smaller index comes first, and so the canonical track before its others.
    for track in np.argsort(-of_recording, kind="stable").tolist():
        artists = [artist_names[artist] for artist in artist_indices[bounds[track] : bounds[track + 1]]]
        text = "".join(f"{field}{_FIELD}" for field in _fields(names[track] or track_ids[track], artists))
        recording = int(canonical[track])
        if under_many[recording]:
            if (recording, text) in seen:
                continue
            seen.add((recording, text))
        tracks.append(track)
        texts.append(text)
    codes, indptr, places = _inverted(texts)
    words, sums = _words(texts)
    return {
        "search_tracks": np.array(tracks, dtype=np.int32),
        "search_codes": codes,
        "search_indptr": indptr,
        "search_places": places,
        "search_words": words,
        "search_word_sums": sums,
    }


class TrackSearch:
    """Looks in the index of an open bundle. Nothing in it changes after construction: threads may share it.

    >>> TrackSearch(bundle).find("bohemain rapsody queen", 3)  # doctest: +SKIP
    [17, 20411, 903]
    """

    def __init__(self, bundle: "Bundle") -> None:
        self.bundle = bundle
        self._codes, self._indptr = bundle.search_codes, bundle.search_indptr
        self._places, self._tracks = bundle.search_places, bundle.search_tracks
        self._words, self._word_sums = bundle.search_words, bundle.search_word_sums

    def find(self, query: str, limit: int = 10) -> list[int]:
        """At most ``limit`` track_idx for what was typed, best first, each the one that stands for its
        recording. Empty where nothing is near enough. Any text may be given, of any length.

        The last word may be unfinished. An id, or a link to a Spotify track, gives that track first.
        """
        found = dict.fromkeys(self._by_id(query))
        text = normalise(query[:_MAX_TYPED])[:_MAX_LETTERS].strip()
        if text and len(self._codes):
            for place in self._ranked(text):
                found[int(self.bundle.canonical[self._tracks[place]])] = None
        return list(found)[: max(limit, 0)]

    def _by_id(self, query: str) -> Iterator[int]:
        typed = query[:_MAX_TYPED].strip()
        link = _SPOTIFY_TRACK.search(typed)
        track = self.bundle.tracks.position(link[1] if link else typed)
        if track >= 0:
            yield int(self.bundle.canonical[track])

    def _ranked(self, text: str) -> list[int]:
        """Places near enough to the text, best first."""
        typed = _Typed(text)
        compared = {
            place: typed.errors(self._fields_at(place)) for place in self._shortlist(text, *_SHORTLIST)
        }
        if not any(errors == 0 for errors, _ in compared.values()):
            for respelled in self._respellings(text.split(" ")):
                for place in self._shortlist(respelled, *_SHORTLIST_RESPELLED):
                    if place not in compared:
                        compared[place] = typed.errors(self._fields_at(place))
        fewest = min((errors for errors, _ in compared.values()), default=0)
        # What is much farther off than the best is no answer to it.
        most = min(max(1, int(_WORST * len(text))), fewest + _FARTHER)
        return [
            place
            for (errors, _), place in sorted((key, place) for place, key in compared.items())
            if errors <= most
        ]

    def _fields_at(self, place: int) -> list[str]:
        bundle = self.bundle
        track = int(self._tracks[place])
        start, end = int(bundle.artist_indptr[track]), int(bundle.artist_indptr[track + 1])
        artists = [bundle.artist_names[int(artist)] for artist in bundle.artist_indices[start:end]]
        return _fields(bundle.names[track] or bundle.tracks[track], artists)

    def _shortlist(self, text: str, size: int, entries: int) -> list[int]:
        """The ``size`` places with most of the text's codes; rare ones count more, ties go to the popular."""
        codes = np.array(list(_codes_typed(text)), dtype=np.uint64)
        slots = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        slots = slots[self._codes[slots] == codes]
        starts, ends = self._indptr[slots], self._indptr[slots + 1]
        score = np.zeros(len(self._tracks), dtype=np.float32)
        for slot in np.argsort(ends - starts, kind="stable").tolist():
            start, end = int(starts[slot]), int(ends[slot])
            # The most popular songs are first, so what is cut off is what few are looking for.
            places = self._places[start : min(end, start + entries)]
            # Each place is there once, so that adding by index adds to every one.
            score[places] += np.float32(np.log1p(len(score) / (end - start)))
            entries -= len(places)
            if entries <= 0:
                break
        best = float(score.max())
        if best <= 0:
            return []
        candidates = np.flatnonzero(score >= 0.4 * best)
        if len(candidates) > size:
            scores = score[candidates]
            least = np.partition(scores, -size)[-size]
            above, level = candidates[scores > least], candidates[scores == least]
            candidates = np.concatenate([above, level[: size - len(above)]])
        return [int(place) for place in candidates]

    def _respellings(self, words: list[str]) -> Iterator[str]:
        """The text with what is not a word of any name replaced by words one error away, likeliest first.

        Where every word is known, each in turn is taken for another.
        """
        last = len(words) - 1
        unknown = [at for at, word in enumerate(words) if not self._is_known(word, unfinished=at == last)]
        if len(unknown) > 3:
            return
        options = {
            at: self._near_words(words[at], unfinished=at == last) for at in unknown or range(len(words))
        }
        joined = [
            [*words[:at], words[at] + words[at + 1], *words[at + 2 :]]
            for at in range(last)
            if self._is_known(words[at] + words[at + 1], unfinished=at + 1 == last)
        ]
        if unknown:
            most = {1: _MAX_RESPELLINGS, 2: 3, 3: 2}[len(unknown)]
            chosen = [[word for word, _ in options[at][:most]] or [words[at]] for at in unknown]
            respelled = [
                [dict(zip(unknown, choice, strict=True)).get(at, word) for at, word in enumerate(words)]
                for choice in product(*chosen)
            ]
        else:
            single = [(count, at, word) for at, near in options.items() for word, count in near]
            single.sort(key=lambda option: (-option[0], option[1:]))
            respelled = [[*words[:at], word, *words[at + 1 :]] for _, at, word in single]
        for spelled in [*joined[:2], *respelled[:_MAX_RESPELLINGS]]:
            if spelled != words:
                yield " ".join(spelled)

    def _is_known(self, word: str, *, unfinished: bool) -> bool:
        number = _number(word)
        # A word in other letters, or a very long one, is not looked up: its three-letter codes are enough.
        return number is None or bool(self._counts(np.array([number]), len(word), unfinished=unfinished)[0])

    def _counts(self, numbers: NDArray[np.int64], length: int, *, unfinished: bool) -> NDArray[np.int64]:
        """How often words with these numbers, all of one length, occur; or any that begin so."""
        # Words that begin alike have neighbouring numbers.
        beyond = numbers + (int(_WEIGHT[length - 1]) if unfinished else 1)
        from_, to = np.searchsorted(self._words, numbers), np.searchsorted(self._words, beyond)
        counts: NDArray[np.int64] = self._word_sums[to] - self._word_sums[from_]
        return counts

    def _near_words(self, word: str, *, unfinished: bool) -> list[tuple[str, int]]:
        """Known words one error from this one (or two known ones it joins), and how often each occurs."""
        number = _number(word)
        if number is None:
            return []
        near: dict[str, int] = {}
        for length, numbers in _one_error_away(word):
            counts = self._counts(numbers, length, unfinished=unfinished and length > 2)
            for at in np.flatnonzero(counts).tolist():
                near[_word(int(numbers[at]))] = int(counts[at])
        for at in range(1, len(word)):
            head, tail = word[:at], word[at:]
            counts_of = [
                int(self._counts(np.array([_number(part)]), len(part), unfinished=False)[0])
                for part in (head, tail)
            ]
            if len(word) > 3 and min(counts_of):
                # Rarely meant where both are common: two words in one are at most as likely as the rarer.
                near[f"{head} {tail}"] = min(counts_of)
        return sorted(near.items(), key=lambda option: (-option[1], option[0]))


def _fields(name: str, artists: Sequence[str]) -> list[str]:
    """The normalised texts a song is found by: its name, and each artist."""
    texts = (name, *artists[:_MAX_ARTISTS])
    return [field for text in texts if (field := normalise(text[:_MAX_FIELD])[:_MAX_FIELD].strip())]


class _Typed:
    """What was typed, ready to be compared with many songs."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._all = _Pattern(f" {text}")
        *whole, last = text.split(" ")
        self._words = [(f" {word} ", _Pattern(f" {word} ")) for word in whole]
        self._words.append((f" {last}", _Pattern(f" {last}")))
        self._beginning, self._field = _Pattern(f"{_FIELD}{text}"), _Pattern(f"{_FIELD}{text}{_FIELD}")

    def errors(self, fields: list[str]) -> tuple[int, int]:
        """How many letters are wrong for a song of these fields, and the fit, smaller being better.

        The fit is 0 where what was typed is a whole field, or all of them; 1 where a field begins so.
        """
        text = self.text
        if text in fields:
            return 0, 0
        joined = f" {' '.join(fields)} "
        errors = 0
        if f" {text}" not in joined:
            errors = self._all.errors_in(joined)
            if len(self._words) > 1:
                # The same words in another order, or with others between them.
                apart = 0
                for word, pattern in self._words:
                    apart += 0 if word in joined else pattern.errors_in(joined)
                    if apart >= errors:
                        break
                errors = min(errors, apart)
        spare = len(joined) - 2 - len(text)
        if abs(spare) <= errors:
            return errors, 0
        for field in fields:
            if (
                abs(len(field) - len(text)) <= errors
                and self._field.errors_in(f"{_FIELD}{field}{_FIELD}") <= errors
            ):
                return errors, 0
        for field in fields:
            if field.startswith(text) or (
                errors and self._beginning.errors_in(f"{_FIELD}{field[: len(text) + errors]}") <= errors
            ):
                return errors, 1
        return errors, 2


class _Pattern:
    """A text to be found in others with errors: a letter too many, missing or wrong, or two swapped.

    >>> _Pattern("quene").errors_in("a queen of"), _Pattern("hello").errors_in("yellow")
    (1, 1)
    """

    # Hyyrö 2003, on Myers 1999: a column of the table of edit distances in the bits of a number, here of any
    # size. A bit of `up` or `down` is set where a cell is one more or one less than that above it.
    __slots__ = ("_full", "_last", "_length", "_where")

    def __init__(self, wanted: str) -> None:
        self._length = len(wanted)
        self._full, self._last = (1 << self._length) - 1, 1 << (self._length - 1)
        self._where: dict[str, int] = {}
        for at, letter in enumerate(wanted):
            self._where[letter] = self._where.get(letter, 0) | 1 << at

    def errors_in(self, text: str) -> int:
        """The fewest errors with which it is somewhere in the text."""
        full, last, where = self._full, self._last, self._where
        up, down, diagonal, before = full, 0, 0, 0
        errors = fewest = self._length
        for letter in text:
            equal = where.get(letter, 0)
            swapped = ((~diagonal & equal) << 1) & before
            diagonal = ((((equal & up) + up) ^ up) | equal | down | swapped) & full
            right, left = down | (full & ~(diagonal | up)), diagonal & up
            if right & last:
                errors += 1
            elif left & last:
                errors -= 1
                if errors < fewest:  # noqa: PLR1730  # min() would take a third of the time of this loop
                    fewest = errors
            right, left = (right << 1) & full, (left << 1) & full
            up, down = left | (full & ~(diagonal | right)), right & diagonal
            before = equal
        return fewest


def _codes_typed(text: str) -> set[int]:
    """The codes of a query: its last word is not taken to be finished, and it may be a whole field."""
    letters = "  " + text.replace(" ", "  ")
    triples = {letters[at : at + 3] for at in range(len(letters) - 2)}
    triples |= {f"{text[-1]} ", f"  {text}"[-2:] + " ", _FIELD + f"{text} "[:2], f" {text}"[-2:] + _FIELD}
    codes = {
        ord(triple[0]) << 42 | ord(triple[1]) << 21 | ord(triple[2])
        for triple in triples
        if len(triple) == 3 and triple[1:] != "  "
    }
    return codes | {_whole_code(text)}


def _whole_code(field: str) -> int:
    digest = hashlib.blake2b(field.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") | int(_WHOLE)


def _inverted(texts: list[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
    """Codes, ascending; where the places of each begin; the places."""
    blocks = [_codes_of(texts[start : start + _BLOCK], start) for start in range(0, len(texts), _BLOCK)]
    unique = [np.unique(codes) for codes, _ in blocks]
    vocabulary = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *unique]))
    # One number for a code and a place, so that one sort brings the places of a code together.
    pairs = np.empty(sum(len(codes) for codes, _ in blocks), dtype=np.int64)
    filled = len(pairs)
    while blocks:  # each is let go as it is read: together they are larger than the index
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
    """Every code of these texts, each once a text, with the place of the text: the first is at ``first``."""
    spaced = [
        "".join(f"  {field.replace(' ', '  ')} {_FIELD}" for field in text.split(_FIELD)[:-1])
        for text in texts
    ]
    letters = np.frombuffer("".join(spaced).encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    place = np.repeat(np.arange(len(texts), dtype=np.int32), [len(text) for text in spaced])
    one, two, three = letters[:-2], letters[1:-1], letters[2:]
    inside = (one != _FIELD_CODE) & (two != _FIELD_CODE) & (three != _FIELD_CODE)
    inside &= (two != _SPACE_CODE) | (three != _SPACE_CODE)
    ends = np.flatnonzero(letters == _FIELD_CODE)
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    wholes = [_whole_code(field) for text in texts for field in text.split(_FIELD)[:-1]]
    codes = np.concatenate(
        [
            _triple(one[inside], two[inside], three[inside]),
            # A field begins with two spaces and ends with one: those letters that are its own.
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


def _words(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The words that have a number, ascending, and the running sum of how many texts each is in."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in set(text.split()):
            counts[word] = counts.get(word, 0) + 1
    numbered = sorted((number, counts[word]) for word in counts if (number := _number(word)) is not None)
    sums = np.zeros(len(numbered) + 1, dtype=np.int64)
    np.cumsum([count for _, count in numbered], out=sums[1:])
    return np.array([number for number, _ in numbered], dtype=np.int64), sums


def _number(word: str) -> int | None:
    """A word as a number, in the order of the alphabet; None where it is longer than twelve, or not Latin."""
    if not 0 < len(word) <= _WORD:
        return None
    number = 0
    for letter in word:
        digit = _DIGIT_OF.get(letter)
        if digit is None:
            return None
        number = number * _BASE + digit
    shift: int = _BASE ** (_WORD - len(word))
    return number * shift


def _word(number: int) -> str:
    letters = []
    for weight in _WEIGHT.tolist():
        digit, number = divmod(number, weight)
        if not digit:
            break
        letters.append(_DIGITS[digit - 1])
    return "".join(letters)


def _one_error_away(word: str) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Lengths and numbers of all words one error away: a letter less, other or more, or two swapped."""
    length = len(word)
    digits = np.array([_DIGIT_OF[letter] for letter in word], dtype=np.int64)
    weights = _WEIGHT[:length]
    heads = np.concatenate([[0], np.cumsum(digits * weights)])  # the first 0, 1, 2, ... letters
    number = heads[-1]
    letters = np.arange(1, _BASE, dtype=np.int64)
    if length > 1:
        yield length - 1, heads[:-1] + (number - heads[1:]) * _BASE
        yield length, number + (digits[1:] - digits[:-1]) * (weights[:-1] - weights[1:])
    yield length, (number + (letters[:, None] - digits) * weights).ravel()
    if length < _WORD:
        yield (
            length + 1,
            (heads + letters[:, None] * _WEIGHT[: length + 1] + (number - heads) // _BASE).ravel(),
        )
