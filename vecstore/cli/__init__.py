"""The command ``vecstore``: parse, one call of the library, print.

Results go to stdout; progress, warnings and errors to stderr. A user's mistake is one line and exit code 1, a
wrong option exit code 2, Ctrl-C exit code 130.
"""

from vecstore.cli.main import main

__all__ = ["main"]
