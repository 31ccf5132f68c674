"""What can go wrong, as types.

Every error that vecstore raises on purpose is a `VecstoreError`, so one ``except`` catches them all;
each subclass also derives from the built-in that a caller would expect (`ValueError`, `OSError`).
Missing keys raise the built-in `KeyError` and rows out of range `IndexError`, as in any Python container.
"""


class VecstoreError(Exception):
    """Base of every error that vecstore raises on purpose."""


class FormatError(VecstoreError, ValueError):
    """A file is not what its format says: where, what was expected, what was found, and the remedy."""


class StoreError(VecstoreError, ValueError):
    """A folder is not a store, or its files do not agree with one another."""


class TargetError(VecstoreError, OSError):
    """The place where a store should appear is taken, or another conversion is writing there."""


class TargetBusyError(TargetError):
    """Another conversion is writing there at this moment; once it has ended, this one may be tried again."""


class RemoteError(VecstoreError, OSError):
    """A store at an address cannot be read now: the network, its server or a permission is in the way."""


class MissingPackageError(VecstoreError, ModuleNotFoundError):
    """A package that this use of vecstore needs is not installed; the message says how to install it."""


class VocabularyError(VecstoreError, ValueError):
    """A vocabulary does not give each of its keys one row."""


class FormatWarning(UserWarning):
    """A file departs from its format in a way that the caller chose to accept."""
