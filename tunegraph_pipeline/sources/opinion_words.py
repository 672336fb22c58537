"""The words, signs and numbers that say what somebody thinks of a song.

Here: the vocabulary, ratings as people write them, and what the name of a column says of its cells. Not here:
what a row says in all its columns (`opinions`), or finding the columns (`columns`).
"""

import re
from collections.abc import Iterable

from tunegraph_pipeline.sources.names import letters

LIKE, DISLIKE, NOTHING, PLAY, UNLIKE, UNDISLIKE, NEUTRAL = 1, -1, 0, 2, 3, 4, 5
"""What a row may say. NEUTRAL is an opinion too: it ends an earlier like or dislike."""

_WORDS: dict[int, str] = {
    LIKE: "like liked likes love loved loves favorite favourite favorited favourited fav star starred save"
    " saved thumbsup thumbup up upvote upvoted heart hearted positive good true yes y t add added"
    " addtoplaylist addtofavorites addtolibrary",
    DISLIKE: "dislike disliked dislikes hate hated hates ban banned block blocked thumbsdown thumbdown down"
    " downvote downvoted negative bad notinterested",
    PLAY: "play played plays listen listened listens scrobble scrobbled stream streamed playend complete"
    " completed finish finished repeat",
    UNLIKE: "unlike unliked unlove unloved unfavorite unfavourite unfavorited unstar unstarred unsave unsaved"
    " removefromfavorites removefromlibrary remove removed",
    UNDISLIKE: "undislike undisliked unhate unhated unban unbanned unblock unblocked",
    NEUTRAL: "none nothing neutral indifferent n no f false unknown unrated",
    NOTHING: "skip skipped skips view viewed click clicked read seen impression impressions show shown pause"
    " paused stop stopped start started playstart search searched share shared download downloaded open"
    " opened lyricdisplay",
}
SAYS = {word: says for says, words in _WORDS.items() for word in words.split()}
SAYS |= dict.fromkeys("👍✓✔❤♥💚💖", LIKE) | dict.fromkeys("👎💔🚫", DISLIKE)
"""Words as `word_of` gives them, with what they say."""

NEGATIVE = re.compile(r"dislik|hate|bann?(ed)?$|block|thumbs?down|downvote")
"""Letters of columns whose yes is a dislike."""

_NOT_CLEAR = {
    "t", "up", "down", "good", "bad", "true", "yes", "y", "add", "added", "save", "saved", "remove",
    "removed", "block", "blocked", "positive", "negative", "star", "fav",
}  # fmt: skip
_CLEAR = {word for word, says in SAYS.items() if says in {LIKE, DISLIKE, UNLIKE, UNDISLIKE}} - _NOT_CLEAR
"""Words that mean a like or a dislike under any name of a column."""


def words_say_opinions(values: Iterable[str]) -> bool:
    """Whether the cells of a column say what somebody likes, whatever the column is called: all of them are
    known words, and some of them mean a like or a dislike."""
    words = {word_of(value) for value in values}
    return bool(words & _CLEAR) and words <= SAYS.keys()


def is_understood(values: Iterable[str]) -> bool:
    """Whether the cells of a column can be taken for opinions: known words, or numbers of a usual scale."""
    some = list(values)
    if all(word_of(value) in SAYS for value in some):
        return True
    numbers = [rated(value) for value in some]
    return all(number is not None and 0 <= number[0] <= 100 for number in numbers)


def word_of(value: str) -> str:
    """A cell as `SAYS` has it: its letters and digits in lower case, or the sign that it is."""
    return letters(value) or value.strip().rstrip("\ufe0f")


_OF_SCALE = re.compile(r"(\d+(?:[.,]\d+)?)\s*(?:/|of|out of|von|sur|de)\s*(\d+)", re.IGNORECASE)
_STARS = re.compile(r"([★⭐✭\ufe0f]+)([☆✩]*)|(\d(?:\.\d)?)\s*(?:★|⭐|stars?|Sterne?)", re.IGNORECASE)


def rated(value: str) -> tuple[float, int | None] | None:
    """A rating as a number and, if the cell gives it, its scale: 4, 4/5, ★★★★☆, 4 stars, 80 %. None for any
    other text."""
    text = value.strip()
    try:
        return float(text.replace(",", ".") if re.fullmatch(r"\d+,\d+", text) else text), None
    except ValueError:
        pass
    if (found := _OF_SCALE.fullmatch(text)) is not None:
        return float(found[1].replace(",", ".")), int(found[2])
    if (found := _STARS.fullmatch(text)) is not None:
        return float(found[3] or len(found[1].replace("\ufe0f", ""))), 5
    if text.endswith("%") and text[:-1].strip().isdigit():
        return float(text[:-1]), 100
    return None


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: ``userRating`` and ``User rating`` are two."""
    return [word for word in re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).lower().split() if word]


_RATING_WORDS = frozenset({
    "rate", "rated", "rating", "ratings", "star", "stars", "grade", "overall", "myrating", "userrating",
    "starrating", "trackrating", "wertung", "bewertung", "note", "puntuación", "puntuacion", "valoración",
    "valutazione", "stelle", "étoiles", "評価", "マイレート",
})  # fmt: skip


def is_rating(name: str) -> bool:
    """Whether the name of a column says that it holds ratings, so that 1 may be the worst of a scale."""
    return not _RATING_WORDS.isdisjoint(words_of(name))


def scale_of(name: str) -> int | None:
    """The scale that a name gives, 5, 10 or 100: "Rating (1-5)", "score out of 10"; None without one."""
    found = re.search(r"(?:\d\s*[-–]\s*|out[ _]of[ _]|/\s*)(5|10|100)\b", name)
    return int(found[1]) if found else None
