"""The words, signs and numbers by which a cell or the name of a column says what somebody thinks of a song.

Here: the vocabulary, ratings as people write them, and the names of columns that hold either. Not here: what
a row says in all its columns (`opinions`), or finding the columns (`columns`).
"""

import re
from collections.abc import Iterable

from tunegraph_pipeline.sources.names import letters

LIKE, DISLIKE, NOTHING, PLAY, UNLIKE, UNDISLIKE, NEUTRAL = 1, -1, 0, 2, 3, 4, 5
"""What a row may say. NEUTRAL is an opinion: neither a like nor a dislike, and no like any more."""

_WORDS: dict[int, str] = {
    LIKE: "like liked likes love loved loves favorite favourite favorited favourited fav star starred save"
    " saved"
    " thumbsup thumbup up upvote upvoted heart hearted positive good true yes y t add added addtoplaylist"
    " addtofavorites addtolibrary",
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
SAYS |= {
    "👍": LIKE,
    "✓": LIKE,
    "✔": LIKE,
    "❤": LIKE,
    "♥": LIKE,
    "💚": LIKE,
    "💖": LIKE,
    "👎": DISLIKE,
    "💔": DISLIKE,
    "🚫": DISLIKE,
}
NEGATIVE = re.compile(r"dislik|hate|bann?(ed)?$|block|thumbs?down|downvote")
"""Letters of columns whose yes is a dislike."""

_CLEAR = {word for word, says in SAYS.items() if says in {LIKE, DISLIKE, UNLIKE, UNDISLIKE}} - {
    *(
        "t",
        "up",
        "down",
        "good",
        "bad",
        "true",
        "yes",
        "y",
        "add",
        "added",
        "save",
        "saved",
        "remove",
        "removed",
    ),
    *("block", "blocked", "positive", "negative", "star", "fav"),
}
"""Words that mean a like or a dislike under any name of a column."""


def words_say_opinions(values: Iterable[str]) -> bool:
    """Whether the cells of a column say what somebody likes, whatever the column is called: all of them are
    known words, and some of them mean a like or a dislike."""
    said = {word_of(value) for value in values}
    return bool(said & _CLEAR) and all(word in SAYS for word in said)


def is_understood(values: Iterable[str]) -> bool:
    """Whether the cells of a column can be taken for opinions: known words, or numbers of a usual scale."""
    some = list(values)
    if all(word_of(value) in SAYS for value in some):
        return True
    numbers = [rated(value) for value in some]
    return all(number is not None and 0 <= number[0] <= 100 for number in numbers)


def word_of(value: str) -> str:
    """A cell as it is compared with the words: letters alone, or the sign that it is."""
    return letters(value) or value.strip().rstrip("\ufe0f")


_OF_SCALE = re.compile(r"(\d+(?:[.,]\d+)?)\s*(?:/|of|out of|von|sur|de)\s*(\d+)", re.IGNORECASE)
_STARS = re.compile(r"([★⭐✭\ufe0f]+)([☆✩]*)|(\d(?:\.\d)?)\s*(?:★|⭐|stars?|Sterne?)", re.IGNORECASE)


def rated(value: str) -> tuple[float, int | None] | None:
    """A rating as a number and, if the cell gives it, its scale: 4, 4/5, ★★★★☆, 4 stars, 80 %; None for
    others."""
    text = value.strip()
    try:
        return float(text.replace(",", ".") if re.fullmatch(r"\d+,\d+", text) else text), None
    except ValueError:
        pass
    if (found := _OF_SCALE.fullmatch(text)) is not None:
        return float(found[1].replace(",", ".")), int(found[2])
    if (found := _STARS.fullmatch(text)) is not None:
        return (float(found[3]) if found[3] else float(len(found[1].replace("\ufe0f", "")))), 5
    if text.endswith("%") and text[:-1].strip().isdigit():
        return float(text[:-1]), 100
    return None


_RATINGS = frozenset(
    {
        *(
            "rate",
            "rated",
            "rating",
            "ratings",
            "star",
            "stars",
            "grade",
            "overall",
            "myrating",
            "userrating",
        ),
        *(
            "starrating",
            "trackrating",
            "wertung",
            "bewertung",
            "note",
            "puntuación",
            "puntuacion",
            "valoración",
        ),
        *("valutazione", "stelle", "étoiles", "評価", "マイレート"),
    }
)


def words_of(name: str) -> list[str]:
    """The words of a name, in lower case: ``userRating`` and ``User rating`` are two."""
    return [word for word in re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).lower().split() if word]


def is_rating(name: str) -> bool:
    """Whether the name of a column says that it holds ratings, so that 1 may be the worst of a scale."""
    return not _RATINGS.isdisjoint(words_of(name))


def scale_of(name: str) -> int | None:
    """The scale that a name gives: "Rating (1-5)", "score out of 10", "Stars /5"."""
    found = re.search(r"(?:\d\s*[-–]\s*|out[ _]of[ _]|/\s*)(5|10|100)\b", name)
    return int(found[1]) if found else None
