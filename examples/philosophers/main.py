"""Dining philosophers, with a deadline: dinner ends, also when nobody can eat.

Each philosopher is a thread and needs two forks, which are locks. If all take the left one first, each holds
one and waits for the other, for ever. Here the table tells who holds what, and the deadline ends the dinner.
"""

from __future__ import annotations

import argparse

import motet

NAMES = ("Aristotle", "Hypatia", "Plato", "Simone", "Zeno")


def dine(
    name: str, forks: tuple[motet.Lock, motet.Lock], seated: motet.Barrier, meals: motet.Channel[str]
) -> None:
    """Eat once: take the one fork, think, take the other."""
    first, second = forks
    seated.wait()
    with first:
        motet.sleep(0.01)
        with second:
            meals.put(name)


def show(forks: list[motet.Lock]) -> None:
    """Who holds which fork, and who waits for it."""
    for number, fork in enumerate(forks):
        found = fork.statistics()
        waiting = ", ".join(row["who"] for row in found["waiters"])
        print(f"  fork {number}: held by {', '.join(found['owners'])}; {waiting} waits")


def dinner(order: str, seconds: float) -> None:
    """One dinner, in which all take their forks in this order."""
    forks = [motet.Lock() for _ in NAMES]
    seated, meals = motet.Barrier(len(NAMES)), motet.Channel[str](None)
    print(f"{order}:")
    try:
        with motet.Scope(timeout=seconds, name="dinner") as scope:
            for number, name in enumerate(NAMES):
                left, right = number, (number + 1) % len(NAMES)
                if order == "lower number first" and left > right:
                    left, right = right, left
                scope.start_soon(dine, name, (forks[left], forks[right]), seated, meals, name=name)
            if order == "left first":
                while sum(len(fork.statistics()["waiters"]) for fork in forks) < len(NAMES):
                    motet.sleep(0.001)
                show(forks)
    except TimeoutError as error:
        print(f"  {error}")
    meals.close()
    eaten, free = sorted(meals), sum(not fork.locked() for fork in forks)
    print(f"  eaten: {', '.join(eaten) or 'nobody'}; forks on the table: {free}")


def main() -> None:
    """Both dinners."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a dinner may last (default: 1)")
    arguments = parser.parse_args()
    for order in ("left first", "lower number first"):
        dinner(order, arguments.seconds)


if __name__ == "__main__":
    main()
