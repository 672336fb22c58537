"""Believable names for the simulated world: artists, songs, listeners and their playlists.

Here: the small grammar that combines the words of ``words.json``. A template holds slots in braces, each
filled with one word of the list of that name: "{adj} {plural}" may become "Paper Lanterns". Not here: which
genres there are (`genres`), or the `Dice` of a draw, which the caller keeps.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TypeVar

import numpy as np
from pydantic import BaseModel

T = TypeVar("T")
Lexicon = Mapping[str, tuple[str, ...]]
"""The words, or templates, that a slot may take."""

_SLOT = re.compile(r"\{(\w+)\}")
_CONTRACTIONS = (
    (re.compile(r"\b([Aa]) (?=[AEIOU])"), r"\1n "),
    (re.compile(r"\ba el "), "al "),
    (re.compile(r"\bde el "), "del "),
)


class _Words(BaseModel, frozen=True, extra="forbid"):
    """The content of ``words.json``."""

    shared: Lexicon
    any_song: tuple[str, ...]  # titles for all genres except own_titles_only
    genres: Mapping[str, Lexicon]
    own_titles_only: frozenset[str]  # genres
    lower_case_scenes: frozenset[str]
    upper_case_scenes: frozenset[str]
    handles: tuple[str, ...]
    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    playlists: tuple[str, ...]
    playlist_words: Lexicon


_WORDS = _Words.model_validate_json(files(__package__).joinpath("words.json").read_bytes())
# A genre's own word is twice as likely as a shared one.
_LEXICONS: Mapping[str, Lexicon] = {
    genre: {slot: (*_WORDS.shared.get(slot, ()), *own.get(slot, ()) * 2) for slot in (*_WORDS.shared, *own)}
    for genre, own in _WORDS.genres.items()
}
_HANDLE_WORDS: Lexicon = {
    "given": _WORDS.first_names,
    "family": _WORDS.last_names,
    "adj": tuple(word.lower() for word in _WORDS.shared["adj"]),
    "noun": tuple(word.lower() for word in _WORDS.shared["noun"]),
    "nn": tuple(str(number) for number in range(2, 100)),
}


class Dice:
    """A stream of choices from one generator."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._rolls: list[float] = []

    def roll(self) -> float:
        """The next number in [0, 1)."""
        if not self._rolls:
            self._rolls = self._generator.random(4096).tolist()
        return self._rolls.pop()

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, each as likely."""
        return options[int(self.roll() * len(options))]


class Songbook:
    """The titles an artist has used, to avoid repeats and frequent patterns."""

    def __init__(self) -> None:
        self.titles: set[str] = set()
        self.patterns: Counter[str] = Counter()


def _fill(template: str, words: Lexicon, dice: Dice) -> str:
    used: set[str] = set()

    def word(slot: re.Match[str]) -> str:
        chosen = dice.choice(words[slot[1]])
        for _ in range(4):  # to avoid "Rain and Rain" and "Secret Secrets"
            if chosen[:4] not in used:
                break
            chosen = dice.choice(words[slot[1]])
        used.add(chosen[:4])
        return chosen

    return _SLOT.sub(word, template)


def artist_name(genre: str, dice: Dice, taken: set[str]) -> str:
    """A name for an artist of ``genre`` that is not in ``taken``, to which it is added."""
    words = _LEXICONS[genre]
    name = _fill(dice.choice(words["artist"]), words, dice)
    while name.casefold() in taken:
        name = _fill(dice.choice(words["artist"]), words, dice)
        if name.casefold() in taken and dice.roll() < 0.2:
            name = f"{name} {dice.choice(('II', 'Collective', 'Sound', 'Project', 'Club'))}"
    taken.add(name.casefold())
    return name


def song_title(genre: str, scene: str, dice: Dice, book: Songbook) -> str:
    """A title for a song of a scene that the artist has not used yet; it is added to their book."""
    words = _LEXICONS[genre]
    patterns = words["song"] if genre in _WORDS.own_titles_only else (*words["song"], *_WORDS.any_song)
    tries = 0
    while True:
        pattern = min((dice.choice(patterns) for _ in range(4)), key=book.patterns.__getitem__)
        title = _polish(_fill(pattern, words, dice))
        if tries >= 20:
            title = f"{title} {dice.choice(words['num2'])}"
        if title.casefold() not in book.titles:
            break
        tries += 1
    book.titles.add(title.casefold())
    book.patterns[pattern] += 1
    if scene in _WORDS.lower_case_scenes:
        return title.lower()
    return title.upper() if scene in _WORDS.upper_case_scenes else title


def _polish(title: str) -> str:
    for wrong, right in _CONTRACTIONS:
        title = wrong.sub(right, title)
    return title[:1].upper() + title[1:]


def user_handle(dice: Dice, taken: set[str]) -> str:
    """A login name such as ``mira.holloway42`` that is not in ``taken``, to which it is added."""
    handle = _fill(dice.choice(_WORDS.handles), _HANDLE_WORDS, dice)
    while handle in taken:
        handle = f"{handle}{int(dice.roll() * 10)}"
    taken.add(handle)
    return handle


def playlist_name(scene: str, dice: Dice) -> str:
    """What a listener might call a playlist of songs of a scene."""
    return _fill(dice.choice(_WORDS.playlists), {**_WORDS.playlist_words, "scene": (scene,)}, dice)
