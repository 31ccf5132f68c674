"""The entry: runs the application, and makes one line of whatever a user can do something about."""

import os
import sys
import warnings
from typing import NoReturn

import vecstore
from vecstore.cli import stores, texts
from vecstore.cli.app import app

__all__ = ["main"]

COMMANDS = stores, texts  # which have added their commands

_INTERRUPTED = 130  # what a shell reports for a command that Ctrl-C ended


def main() -> None:
    """Run the command; end the process with its exit code."""
    # A key may hold anything; printing one must not fail for the terminal's encoding.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = lambda message, *_: print(f"vecstore: warning: {message}", file=sys.stderr)
    try:
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:  # typer has caught the KeyboardInterrupt
            _interrupt()
        _flush()
        raise
    except KeyboardInterrupt:
        _interrupt()
    except (vecstore.VecstoreError, ValueError, MemoryError) as error:
        _fail(str(error))
    except KeyError as error:
        _fail(str(error.args[0]))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except ModuleNotFoundError as error:
        extra = error.name if error.name in ("gensim", "keras") else "demo"
        _fail(f"{error.name} is not installed; install what this needs with: pip install 'vecstore[{extra}]'")


def _flush() -> None:
    """Write what is still held, while somebody can say that it cannot be written; a reader may leave (``| head``)."""
    if sys.stdout is None:  # closed by whoever started the command
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at the end
        if not isinstance(error, BrokenPipeError):
            _fail(f"standard output: {error.strerror}")


def _interrupt() -> NoReturn:
    """End the process without waiting for its threads: one that was starting when Ctrl-C came may never end."""
    print("vecstore: interrupted", file=sys.stderr, flush=True)
    os._exit(_INTERRUPTED)


def _fail(message: str) -> None:
    print(f"vecstore: {message}", file=sys.stderr)
    sys.exit(1)
