"""A process that does one thing and ends: opens what a peer prepared, makes a matrix or gets a vector.

    python -m peers.once NAME PATH KEYS COUNT [SAVE]

The first COUNT keys of the file KEYS are a vocabulary; if it is one key alone, its vector is got. SAVE gets the answer.
Prints what the process has to itself at its end, in bytes.
"""

import importlib
import sys


def main():
    """Do it."""
    name, path, keys, count, *save = sys.argv[1:]
    with open(keys, encoding="utf-8") as file:
        words = file.read().split("\n", int(count))[: int(count)]
    peer = importlib.import_module(f"peers.{name}").Peer()
    peer.open(path)
    if count == "1":
        answer = peer.get_each(words)[0]
    else:
        answer = peer.matrix({word: row for row, word in enumerate(words, start=1)})
    if save:
        import numpy as np

        np.save(save[0], answer)
    with open("/proc/self/status") as status:
        print(next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:")))


if __name__ == "__main__":
    main()
