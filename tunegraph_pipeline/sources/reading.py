"""How a file is to be read, and what was read of it.

Here: `Given`, the options of an import, and `Reading`, tables whose columns have roles. Not here: reading
(`read_file`, `table_reading`, `text_shapes`), or what becomes of the rows (`rows`).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tunegraph_pipeline.errors import InputError
from tunegraph_pipeline.sources.formats import BY_NAME, CONTAINERS, Format
from tunegraph_pipeline.sources.opinions import Rules
from tunegraph_pipeline.sources.rows import Table


@dataclass(frozen=True)
class Given:
    """The options of an import that say how to read a file.

    ``format`` is one of `formats.FORMAT_NAMES`. ``named`` maps user_id, track_id and liked_at to the columns
    that options name; columns in ``ignored`` decide nothing. ``likes_asked``: --kind is likes.
    """

    format: str = "auto"
    named: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    user_id: str | None = None
    likes_asked: bool = False
    rules: Rules = field(default_factory=Rules)

    def check_container(self, container: str, where: str) -> None:
        """Raise InputError if --format names another container than this one."""
        if self.format not in {"auto", container, *({"csv"} if container == "tsv" else ()), *BY_NAME}:
            raise self.not_the_format(container, where)

    def check_format(self, found: Format, where: str) -> None:
        """Raise InputError if --format names another format than this one."""
        if self.format not in {"auto", found.name, *CONTAINERS}:
            raise self.not_the_format(found.name, where)

    def not_the_format(self, found: str, where: str) -> InputError:
        """The error that a file is not of the format named, and looks like ``found``."""
        return InputError(
            f"{where} is not {self.format}: it looks like {found}; leave --format out or name that"
        )

    def check_unnamed(self, found: Format, where: str) -> None:
        """Raise InputError if options name columns of a format that has none."""
        if self.named:
            raise InputError(
                f"{where} is {found.name}, which has no columns to name; leave the column options out"
            )


@dataclass
class Reading:
    """What was read of a file, or of files that belong together.

    ``tables`` have columns by role. The lists of the users in ``seen_whole`` are complete, even if empty;
    those of the users in ``failed`` are unknown. ``counts`` says how many rows were skipped, and why. For
    people: ``shape`` says how the file was cut, ``columns`` which column has which role, ``unused`` which
    decide nothing, and ``notes`` what was decided. ``person`` is the owner that the file names, or "".
    """

    format: Format
    tables: list[Table]
    shape: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    seen_whole: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    person: str = ""
