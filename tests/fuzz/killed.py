"""Writers of a store that are killed at random moments, or write the same entries at once: a process of its own, which forks.

    python killed.py FOLDER KILLS SEED

Prints how often a killed writer had left its entry whole and how often nothing; exits with an error if anything else was seen.
"""

import functools
import json
import os
import random
import signal
import sys
import time
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


def kill_writers(root: Path, kills: int, rng: random.Random) -> dict[str, int]:
    """One writer after the other, killed at a random moment of the time that one takes; what was there before stays."""
    store, seen = Store(root), {"whole": 0, "nothing": 0}
    started = time.perf_counter()
    for number in range(10):
        os.waitpid(child(functools.partial(write, root, number)), 0)
    usual = (time.perf_counter() - started) / 10
    for number in range(10, 10 + kills):
        pid = child(functools.partial(write, root, number))
        time.sleep(rng.random() * usual * 1.2)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        seen[state(store, number)] += 1
        assert state(store, rng.randrange(10)) == "whole"
    for number in rng.sample(range(10, 10 + kills), min(50, kills)):
        write(root, number)  # what was cut off is made again
        assert state(store, number) == "whole"
    assert all(m["inputs"]["number"] >= 0 for _, m in store.manifests())
    return seen


def write_at_once(root: Path, entries: int, writers: int, rng: random.Random) -> None:
    """Several writers of the same entries, some of which are damaged meanwhile, beside a reader: no error, all whole in the end."""
    store = Store(root)

    def work(seed: int) -> None:
        own = random.Random(seed)
        try:
            for number in own.sample(range(entries), entries):
                write(root, number)
                if own.random() < 0.2:
                    manifest = store.path("kind", {"number": number}) / "manifest.json"
                    if manifest.exists():
                        manifest.write_text("{")
                list(store.manifests())
                write(root, number)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
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
