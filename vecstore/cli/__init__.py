"""The command ``vecstore``: parse, one call of the library, print.

Results go to stdout; progress, warnings and errors to stderr. A user's mistake is one line and exit code 1, a
wrong option exit code 2, Ctrl-C exit code 130.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command; end the process with its exit code."""
    # Imported here: each worker of a job imports the script that the command is, and has no use for what parses.
    from vecstore.cli.main import main

    main()
