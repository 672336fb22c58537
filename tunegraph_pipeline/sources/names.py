"""Names as they are compared, and as messages show them.

Here: two functions on text. Not here: what a name means (`columns`, `opinion_words`), or names of songs
(`song_ids`).
"""

import re
from collections.abc import Sequence


def letters(name: str) -> str:
    """A column name as it is compared: letters and digits, in lower case."""
    return re.sub(r"[\W_]+", "", name).lower()


def shown(names: Sequence[str]) -> str:
    """Column names or cells for a message: the first dozen, each shortened."""
    cut = [repr(name if len(name) <= 40 else name[:37] + "...") for name in names[:12]]
    return ", ".join(cut) + (", ..." if len(names) > 12 else "")
