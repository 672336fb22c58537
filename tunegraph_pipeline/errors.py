"""The one family of errors a person is meant to read.

Here: exceptions whose message is a complete sentence for the user, naming the file, row or option and
what to do. Not here: programming errors, which stay the built-in exceptions and keep their traceback.
The standard library alone, because `recommend/` imports this too.
"""


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


class LibraryMissingError(TuneGraphError):
    """Something needs a library that is not installed; an extra installs it."""
