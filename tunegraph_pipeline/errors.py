"""The one family of errors a person is meant to read.

Here: exceptions whose message is a complete sentence for the user, naming the file, row or option and
what to do. Not here: programming errors, which stay the built-in exceptions and keep their traceback.
The standard library alone, because `recommend/` imports this too.
"""

import errno
import os


class TuneGraphError(Exception):
    """Bad input, or a lake that cannot be used as asked; the command line prints it and exits 2."""


class InputError(TuneGraphError):
    """A file, column, row or option that cannot be used."""


class LakeError(TuneGraphError):
    """The lake is missing, locked, too new, unwritable or not as it was declared."""


class LakeMissingError(LakeError):
    """There is no lake where one was asked for."""


class SpoolFullError(LakeError):
    """The feedback that waits for a refresh takes all the room it may take."""


class BundleError(TuneGraphError):
    """A serving bundle that is missing, incomplete or does not match its manifest."""


class EngineError(TuneGraphError):
    """A cluster that cannot be used, or that lost what ran on it."""


class ShortageError(TuneGraphError):
    """The machine ran out of memory or of open files. Nothing is damaged by it, and no disk is full."""


_SHORTAGES = {
    errno.ENOMEM: "close other programs, or use a machine with more memory",
    errno.EMFILE: "this process may open no more; raise its limit (ulimit -n)",
    errno.ENFILE: "the machine can open no more; end what holds them open",
}


def check_shortage(error: BaseException, doing: str) -> None:
    """Raise ShortageError if an error says that memory or open files ran out, and not that a file is wrong.
    ``doing`` begins the sentence, such as "cannot read PATH"."""
    code = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    if code in _SHORTAGES:
        raise ShortageError(f"{doing} ({os.strerror(code)}): {_SHORTAGES[code]}") from error


class LibraryMissingError(TuneGraphError):
    """Something needs a library that is not installed; an extra installs it."""
