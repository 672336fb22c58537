"""Search songs by typed text: a name, artists, both, or an id, with typing errors.

Here: searching the index of the names that a bundle contains. Not here: building it (`search_index`), the
fields of a song (`recommender`), or which songs may be shown (the service).

The search has two steps. First, an inverted index gives a shortlist. Its *codes* are every three letters of
every word, where a name begins and ends, and whole names; rarer codes count more. Second, only the shortlist
is compared letter by letter. The order is: fewest errors; then whole names, beginnings of names, other
matches; then the more popular song. If nothing matches without an error, words that no name has are replaced
by known words one error away, and their shortlists are added.

The index is arrays, so it is mapped, checked and shared between workers like the rest of the bundle. The cost
of a query is bounded: beyond a number of entries the most frequent codes are not read. `benchmarks/search.py`
compares it with SQLite's full-text search, which is much slower and finds fewer songs.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tunegraph_pipeline.recommend.bundle import Bundle
from tunegraph_pipeline.recommend.search_index import (
    BASE,
    DIGIT_OF,
    FIELD,
    WEIGHT,
    WORD,
    codes_typed,
    fields_of,
    normalise,
    number_of,
    word_of,
)

_MAX_TYPED, _MAX_LETTERS = 300, 100
"""Maximum length of a query before and after it is normalised: longer than a title with its artists."""
_SHORTLIST = (64, 600_000)
"""Maximum number of songs, and of index entries to read, which takes a few milliseconds."""
_SHORTLIST_RESPELLED = (12, 200_000)
_MAX_RESPELLINGS = 6
_MAX_CALLED = 50
"""Most songs of one name that are looked at."""
_MAX_ERROR_SHARE = 0.34  # of the letters
_MAX_EXTRA_ERRORS = 1  # more than the best match has


class TrackSearch:
    """Searches the index of an open bundle. Immutable: threads may share it.

    >>> TrackSearch(bundle).find("bohemain rapsody queen", 3)  # doctest: +SKIP
    [17, 20411, 903]
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._codes, self._indptr = bundle.search_codes, bundle.search_indptr
        self._places, self._tracks = bundle.search_places, bundle.search_tracks
        self._words, self._word_sums = bundle.search_words, bundle.search_word_sums

    def find(self, query: str, limit: int = 10) -> list[int]:
        """At most ``limit`` canonical track_idx that match the query, best first; empty if nothing is close.

        The query may be any text of any length. Its last word may be unfinished. For an id or a link to a
        track, that track comes first.
        """
        typed = query[:_MAX_TYPED].strip()
        track = self.bundle.tracks.position(typed)
        found = [int(self.bundle.canonical[track])] if track >= 0 else []
        text = normalise(query[:_MAX_TYPED])[:_MAX_LETTERS].strip()
        if text and len(self._codes):
            for place in self._ranked(text):
                found.append(int(self.bundle.canonical[self._tracks[place]]))
        return list(dict.fromkeys(found))[: max(limit, 0)]

    def called(self, text: str) -> list[int]:
        """The canonical track_idx of the songs that a text names in full, the most popular first: by id, by
        title, or by title and artists in either order. Case, accents and punctuation do not matter.

        >>> TrackSearch(bundle).called("queen - bohemian rhapsody")  # doctest: +SKIP
        [17]
        """
        typed = normalise(text)
        found = self.find(text, _MAX_CALLED)
        by_id = self.bundle.tracks.position(text.strip()) >= 0
        return found[:1] if by_id else [track for track in found if typed in self._full_names(track)]

    def _full_names(self, track: int) -> set[str]:
        bundle = self.bundle
        name, everybody = bundle.names[track], bundle.artists[track]
        start, end = int(bundle.artist_indptr[track]), int(bundle.artist_indptr[track + 1])
        artists = [everybody, *(bundle.artist_names[int(at)] for at in bundle.artist_indices[start:end])]
        pairs = [f"{one} {other}" for by in artists for one, other in ((name, by), (by, name))]
        return {normalise(text) for text in (name, *pairs)} - {""}

    def _ranked(self, text: str) -> list[int]:
        """Places close enough to the text, best first."""
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
        # Much worse matches than the best are not what was searched for.
        most = min(max(1, int(_MAX_ERROR_SHARE * len(text))), fewest + _MAX_EXTRA_ERRORS)
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
        return fields_of(bundle.names[track] or bundle.tracks[track], artists)

    def _shortlist(self, text: str, size: int, entries: int) -> list[int]:
        """The ``size`` places with most of the text's codes, weighted by rarity; on ties the more popular."""
        codes = np.array(list(codes_typed(text)), dtype=np.uint64)
        slots = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        slots = slots[self._codes[slots] == codes]
        starts, ends = self._indptr[slots], self._indptr[slots + 1]
        score = np.zeros(len(self._tracks), dtype=np.float32)
        for slot in np.argsort(ends - starts, kind="stable").tolist():
            start, end = int(starts[slot]), int(ends[slot])
            # Places are sorted by popularity, so the songs cut off are those that fewer people search for.
            places = self._places[start : min(end, start + entries)]
            # Adding by index is correct because no place occurs twice.
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
        """The text with unknown words replaced by known ones one error away, likeliest first.

        If all words are known, each in turn is replaced.
        """
        unknown = [at for at in range(len(words)) if not self._is_known(words[at], at == len(words) - 1)]
        if len(unknown) > 3:
            return
        replaced = self._replaced_unknown(words, unknown) if unknown else self._replaced_one(words)
        for spelled in [*self._joined(words)[:2], *replaced[:_MAX_RESPELLINGS]]:
            if spelled != words:
                yield " ".join(spelled)

    def _joined(self, words: list[str]) -> list[list[str]]:
        """The words with two neighbours joined, if that is a known word."""
        last = len(words) - 1
        return [
            [*words[:at], words[at] + words[at + 1], *words[at + 2 :]]
            for at in range(last)
            if self._is_known(words[at] + words[at + 1], at + 1 == last)
        ]

    def _replaced_unknown(self, words: list[str], unknown: list[int]) -> list[list[str]]:
        """All ``unknown`` words replaced at once, in every combination of their likeliest replacements."""
        most = {1: _MAX_RESPELLINGS, 2: 3, 3: 2}[len(unknown)]
        near = [self._near_words(words[at], at == len(words) - 1)[:most] for at in unknown]
        choices = [[word for word, _ in some] or [words[at]] for at, some in zip(unknown, near, strict=True)]
        return [
            [dict(zip(unknown, choice, strict=True)).get(at, word) for at, word in enumerate(words)]
            for choice in product(*choices)
        ]

    def _replaced_one(self, words: list[str]) -> list[list[str]]:
        """One word replaced, the most frequent replacement first."""
        last = len(words) - 1
        options = [
            (-count, at, near)
            for at, word in enumerate(words)
            for near, count in self._near_words(word, at == last)
        ]
        return [[*words[:at], near, *words[at + 1 :]] for _, at, near in sorted(options)]

    def _is_known(self, word: str, unfinished: bool) -> bool:
        number = number_of(word)
        # Words in other letters, or very long ones, are not respelled: their three-letter codes are enough.
        return number is None or bool(self._counts(np.array([number]), len(word), unfinished=unfinished)[0])

    def _counts(self, numbers: NDArray[np.int64], length: int, *, unfinished: bool) -> NDArray[np.int64]:
        """How often the words with these numbers, all of the same length, occur; if ``unfinished``, the words
        that begin with them."""
        # Words with the same beginning have consecutive numbers.
        beyond = numbers + (int(WEIGHT[length - 1]) if unfinished else 1)
        from_, to = np.searchsorted(self._words, numbers), np.searchsorted(self._words, beyond)
        counts: NDArray[np.int64] = self._word_sums[to] - self._word_sums[from_]
        return counts

    def _near_words(self, word: str, unfinished: bool) -> list[tuple[str, int]]:
        """Known words one error away (or two known words joined in this one), with their counts, most
        frequent first."""
        number = number_of(word)
        if number is None:
            return []
        near: dict[str, int] = {}
        for length, numbers in _one_error_away(word):
            counts = self._counts(numbers, length, unfinished=unfinished and length > 2)
            for at in np.flatnonzero(counts).tolist():
                near[word_of(int(numbers[at]))] = int(counts[at])
        for at in range(1, len(word)):
            head, tail = word[:at], word[at:]
            counts_of = [
                int(self._counts(np.array([number_of(part)]), len(part), unfinished=False)[0])
                for part in (head, tail)
            ]
            if len(word) > 3 and min(counts_of):
                # A pair of words is at most as frequent as the rarer of the two.
                near[f"{head} {tail}"] = min(counts_of)
        return sorted(near.items(), key=lambda option: (-option[1], option[0]))


class _Typed:
    """The normalised query, prepared for comparison with many songs."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._all = _Pattern(f" {text}")
        *whole, last = text.split(" ")
        self._words = [(f" {word} ", _Pattern(f" {word} ")) for word in whole]
        self._words.append((f" {last}", _Pattern(f" {last}")))
        self._beginning, self._field = _Pattern(f"{FIELD}{text}"), _Pattern(f"{FIELD}{text}{FIELD}")

    def errors(self, fields: list[str]) -> tuple[int, int]:
        """The number of errors for a song of these fields, and the kind of match, smaller being better.

        The kind is 0 if the query is a whole field or all of them, 1 if a field begins with it, 2 otherwise.
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
                and self._field.errors_in(f"{FIELD}{field}{FIELD}") <= errors
            ):
                return errors, 0
        for field in fields:
            if field.startswith(text) or (
                errors and self._beginning.errors_in(f"{FIELD}{field[: len(text) + errors]}") <= errors
            ):
                return errors, 1
        return errors, 2


class _Pattern:
    """Finds a text in others with errors: a letter too many, missing or wrong, or two swapped.

    >>> _Pattern("quene").errors_in("a queen of"), _Pattern("hello").errors_in("yellow")
    (1, 1)
    """

    # Hyyrö 2003, after Myers 1999: a column of the edit distance table in the bits of an integer of any size.
    # A bit of `up` or `down` is set where a cell is one more or one less than the cell above it.
    __slots__ = ("_full", "_last", "_length", "_where")

    def __init__(self, wanted: str) -> None:
        self._length = len(wanted)
        self._full, self._last = (1 << self._length) - 1, 1 << (self._length - 1)
        self._where: dict[str, int] = {}
        for at, letter in enumerate(wanted):
            self._where[letter] = self._where.get(letter, 0) | 1 << at

    def errors_in(self, text: str) -> int:
        """The fewest errors with which it occurs anywhere in the text."""
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
                if errors < fewest:  # noqa: PLR1730  # min() would make this loop much slower
                    fewest = errors
            right, left = (right << 1) & full, (left << 1) & full
            up, down = left | (full & ~(diagonal | right)), right & diagonal
            before = equal
        return fewest


def _one_error_away(word: str) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Lengths and numbers of all words one error away: a letter removed, changed or added, or two swapped."""
    length = len(word)
    digits = np.array([DIGIT_OF[letter] for letter in word], dtype=np.int64)
    weights = WEIGHT[:length]
    heads = np.concatenate([[0], np.cumsum(digits * weights)])  # the first 0, 1, 2, ... letters
    number = heads[-1]
    letters = np.arange(1, BASE, dtype=np.int64)
    if length > 1:
        yield length - 1, heads[:-1] + (number - heads[1:]) * BASE
        yield length, number + (digits[1:] - digits[:-1]) * (weights[:-1] - weights[1:])
    yield length, (number + (letters[:, None] - digits) * weights).ravel()
    if length < WORD:
        yield (
            length + 1,
            (heads + letters[:, None] * WEIGHT[: length + 1] + (number - heads) // BASE).ravel(),
        )
