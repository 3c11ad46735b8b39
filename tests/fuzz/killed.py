"""Writers of a store that are killed at chosen points of the write, or write the same entries at once: a process of
its own, which forks.

    python killed.py FOLDER KILLS SEED

Prints how often a killed writer had left its entry whole and how often nothing; exits with an error if anything else
was seen.
"""

import contextlib
import functools
import json
import os
import random
import signal
import sys
import traceback
from pathlib import Path

import numpy as np

from raretok.store import Store

FILES = 3


def content(number: int) -> dict[str, np.ndarray]:
    """What belongs to an entry."""
    return {f"a{k}": np.full(2000 * (k + 1), number * 10 + k) for k in range(FILES)}


def write(root: Path, number: int) -> None:
    Store(root).arrays("kind", {"number": number}, lambda: content(number))


def state(store: Store, number: int) -> str:
    """Whether an entry is whole or not there; a half one, or another's content, is an error."""
    place = store.path("kind", {"number": number})
    if not place.exists():
        return "nothing"
    assert store.intact("kind", {"number": number}), f"{place} is there, but not whole"
    found = store.arrays("kind", {"number": number}, lambda: sys.exit("computed although it is there"))
    assert all((found[n] == a).all() for n, a in content(number).items()), f"{place} holds something else"
    return "whole"


def child(work) -> int:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


class Calls:
    """Counts what Python calls outside itself – files made, written, synchronised, renamed – and kills its process
    at one of them.
    """

    def __init__(self, fatal: int = 0) -> None:
        self.count, self.fatal = 0, fatal

    def __call__(self, frame, event, argument) -> None:
        if event == "c_call":
            self.count += 1
            if self.count == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)


def write_and_die(root: Path, number: int, fatal: int) -> None:
    """Write an entry; the process ends without a word at its call of that number."""
    sys.setprofile(Calls(fatal))
    write(root, number)


def calls_of_a_write(root: Path) -> int:
    """How many calls a write takes, reading what was written included; the first does more than those that follow."""
    for number in range(-2, 0):
        calls = Calls()
        sys.setprofile(calls)
        write(root, number)
        sys.setprofile(None)
    return calls.count


def kill_writers(root: Path, kills: int, rng: random.Random) -> dict[str, int]:
    """One writer after the other, killed at points that lie evenly over the write; what was there before stays."""
    store, seen, calls = Store(root), {"whole": 0, "nothing": 0}, calls_of_a_write(root)
    for number in range(10):
        write(root, number)
    for k, number in enumerate(range(10, 10 + kills)):
        pid = child(functools.partial(write_and_die, root, number, 1 + k * (calls - 1) // kills))
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSIGNALED(status), f"writer {k} of {kills} was not killed"
        seen[state(store, number)] += 1
        assert state(store, rng.randrange(10)) == "whole"
    for number in rng.sample(range(10, 10 + kills), min(50, kills)):
        write(root, number)  # what was cut off is made again
        assert state(store, number) == "whole"
    assert {m["inputs"]["number"] for _, m in store.manifests()} >= set(range(10))
    return seen


def write_at_once(root: Path, entries: int, writers: int, rng: random.Random) -> None:
    """Several writers of the same entries, some of which are damaged meanwhile, beside a reader: no error, all whole
    in the end.
    """
    store = Store(root)

    def work(seed: int) -> None:
        own = random.Random(seed)
        try:
            for number in own.sample(range(entries), entries):
                write(root, number)
                if own.random() < 0.2:
                    with contextlib.suppress(FileNotFoundError):  # Another writer may be replacing the entry.
                        (store.path("kind", {"number": number}) / "manifest.json").write_text("{")
                list(store.manifests())
                write(root, number)
        except BaseException as error:
            traceback.print_exception(error)
            os._exit(1)

    pids = [child(functools.partial(work, rng.random())) for _ in range(writers)]
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids), "a writer failed"
    for number in range(entries):
        write(root, number)
        assert state(store, number) == "whole"


if __name__ == "__main__":
    where, count, chance = Path(sys.argv[1]), int(sys.argv[2]), random.Random(sys.argv[3])
    write_at_once(where / "at-once", max(10, count // 10), 4, chance)
    print(json.dumps(kill_writers(where / "killed", count, chance)))
