"""What a script defines, shipped to a worker that never runs the script."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

RunScript = Callable[[str], None]
HERE = str(Path(__file__).parent)


@pytest.fixture(params=["file", "notebook"])
def run_script(request: pytest.FixtureRequest, tmp_path: Path) -> RunScript:
    """Runs a text as `__main__`, from a file or, as a notebook does, cell by cell without one."""

    def run(source: str) -> None:
        text = textwrap.dedent("from shipping_peer import Peer\npeer = Peer()\n") + textwrap.dedent(source)
        text += "\npeer.close()\nprint('reached the end')\n"
        script = tmp_path / "script.py"
        if request.param == "file":
            script.write_text(text)
        else:
            # Without a file, and without source lines.
            cells = repr(text.split("# cell\n"))
            script.write_text(
                "import sys, types\n"
                "main = sys.modules['__main__'] = types.ModuleType('__main__')\n"
                f"for cell in {cells}:\n    exec(compile(cell, '<cell>', 'exec'), main.__dict__)\n"
            )
        environment = {**os.environ, "PYTHONPATH": HERE, "PYTHONWARNINGS": "error"}
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, timeout=120, env=environment
        )
        assert "reached the end" in done.stdout, done.stdout + done.stderr

    return run


def test_functions_see_globals_as_they_are_at_the_call(run_script: RunScript) -> None:
    run_script(
        """
        N = 5
        f = lambda x: x * N
        def g(x):
            return f(x) + 1
        assert peer.call(f, 2) == 10
        assert peer.call(g, 2) == 11
        sent = peer.blobs_sent
        assert peer.call(f, 2) == 10
        assert peer.blobs_sent == sent
        N = 6
        assert peer.call(f, 2) == 12
        assert peer.call(g, 2) == 13
        N = [7]
        assert peer.call(lambda: N) == [7]
        h = lambda: sum(N)
        assert peer.call(h) == 7
        sent = peer.blobs_sent
        assert peer.call(h) == 7
        assert peer.blobs_sent == sent
        N.append(1)
        assert peer.call(h) == 8
        # cell
        f = lambda x: x + 100
        assert peer.call(g, 2) == 103
        """
    )


def test_instances_of_a_scripts_classes_come_back_as_such(run_script: RunScript) -> None:
    run_script(
        """
        import collections, dataclasses, enum, typing

        @dataclasses.dataclass
        class Point:
            x: int
            y: int = 0
            tags: list = dataclasses.field(default_factory=list)
            count: typing.ClassVar[int] = 3
            def moved(self, by):
                return Point(self.x + by, self.y, self.tags)

        @dataclasses.dataclass(frozen=True, slots=True)
        class Fixed:
            x: int

        class Colour(enum.Enum):
            RED = 1
            BLUE = "b"
            def other(self):
                return Colour.BLUE if self is Colour.RED else Colour.RED

        class Planet(enum.Enum):
            EARTH = 1, 2
            MARS = 3, 4
            def __init__(self, mass, radius):
                self.mass = mass
                self.radius = radius
            @property
            def total(self):
                return self.mass + self.radius

        class Slotted:
            __slots__ = ("a", "__b")
            def __init__(self):
                self.a = 1
                self.__b = 2
            def b(self):
                return self.__b

        class Flags(enum.Flag):
            A = 1
            B = 2

        Pair = collections.namedtuple("Pair", "left right")

        class Typed(typing.NamedTuple):
            name: str
            size: int = 1

        class Base:
            def __init__(self):
                self.kept = "base"
            def who(self):
                return "base"

        class Derived(Base):
            def who(self):
                return "derived of " + super().who()
            @classmethod
            def make(cls):
                return cls()
            @staticmethod
            def fixed():
                return 4
            @property
            def size(self):
                return 2

        class Cycle:
            def again(self):
                return Cycle()

        moved_before = Point.moved
        point = peer.call(lambda: Point(1))
        assert type(point) is Point and point == Point(1)
        assert type(peer.call(Point, 1, y=2)) is Point
        assert type(peer.call(Point(1).moved, 5)) is Point
        assert peer.call(Point.moved, Point(1), 2) == Point(3)
        assert Point.moved is moved_before
        back = peer.call(lambda points: [p.moved(1) for p in points], [Point(1), Point(2)])
        assert [type(p) for p in back] == [Point, Point] and back == [Point(2), Point(3)]
        assert peer.call(lambda p: isinstance(p, Point) and p == Point(1), Point(1))
        assert peer.call(lambda: Fixed(3)) == Fixed(3)
        assert peer.call(Colour.RED.other) is Colour.BLUE
        assert peer.call(lambda c: c.other(), Colour.BLUE) is Colour.RED
        assert peer.call(lambda c: c is Colour.RED, Colour.RED)
        assert peer.call(lambda: (Planet.MARS, Planet.MARS.total)) == (Planet.MARS, 7)
        assert peer.call(lambda planet: planet.mass, Planet.EARTH) == 1
        slotted = peer.call(lambda: Slotted())
        assert type(slotted) is Slotted and slotted.a == 1 and slotted.b() == 2
        assert peer.call(lambda s: (s.a, s.b(), hasattr(s, "__dict__")), slotted) == (1, 2, False)
        assert peer.call(lambda: Flags.A | Flags.B) is Flags.A | Flags.B
        assert type(peer.call(lambda p: Pair(*reversed(p)), Pair(1, 2))) is Pair
        assert peer.call(lambda: Typed("a")) == Typed("a") and type(peer.call(Typed, "a")) is Typed
        derived = peer.call(lambda: Derived())
        assert type(derived) is Derived and derived.who() == "derived of base" and derived.kept == "base"
        assert peer.call(Derived().who) == "derived of base"
        assert type(peer.call(Derived.make)) is Derived
        assert peer.call(Derived.fixed) == 4
        assert peer.call(lambda d: d.size, Derived()) == 2
        assert type(peer.call(Cycle().again)) is Cycle
        assert peer.call(lambda: Derived) is Derived
        assert peer.call(lambda: {Colour.RED: (Point, [Pair])}) == {Colour.RED: (Point, [Pair])}
        # cell
        Older = Point
        @dataclasses.dataclass
        class Point:
            z: int
        assert type(peer.call(lambda: Point(1))) is Point
        assert type(peer.call(lambda p: p, Older(1))) is Older
        assert type(peer.call(lambda: (Older(1), Point(1)))[0]) is Older
        """
    )


def test_a_changed_class_is_shipped_again_and_stays_one_class(run_script: RunScript) -> None:
    run_script(
        """
        class Model:
            rate = 1
            table = []
            def tell(self):
                return self.rate, self.table
        model = Model()
        assert peer.call(lambda m: m.tell(), model) == (1, [])
        Model.rate = 2
        Model.table.append(3)
        assert peer.call(lambda m: m.tell(), model) == (2, [3])
        assert peer.call(model.tell) == (2, [3])
        Model.tell = lambda self: "new"
        assert peer.call(model.tell) == "new"
        def changing(m):
            type(m).rate = 50
            return m
        assert type(peer.call(changing, model)) is Model
        assert Model.rate == 2
        """
    )


def test_a_scripts_exceptions_are_caught_by_their_class(run_script: RunScript) -> None:
    run_script(
        """
        class Problem(Exception):
            def __init__(self, code, *, detail):
                super().__init__(f"problem {code}")
                self.code = code
                self.detail = detail
        class Worse(Problem):
            pass
        def fail(kind):
            raise kind(7, detail=[1, 2])
        for kind in (Problem, Worse):
            try:
                peer.call(fail, kind)
            except Problem as error:
                assert type(error) is kind
                assert (str(error), error.code, error.detail) == ("problem 7", 7, [1, 2])
                assert "in fail" in str(error.__cause__)
                assert "_executor" not in str(error.__cause__)
            else:
                raise AssertionError
        problem = peer.call(lambda: Problem(1, detail=None))
        assert type(problem) is Problem and problem.code == 1
        """
    )


def test_functions_of_every_kind(run_script: RunScript) -> None:
    run_script(
        """
        import asyncio, functools, logging, os.path, typing
        UserId = typing.NewType("UserId", int)
        log = logging.getLogger("script")

        def factorial(n):
            return 1 if n < 2 else n * factorial(n - 1)
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        @functools.lru_cache(maxsize=None)
        def fibonacci(n):
            return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
        def logged(function):
            @functools.wraps(function)
            def wrapper(*args):
                log.debug("called")
                return "logged", function(*args)
            return wrapper
        @logged
        def decorated(x):
            return x
        def numbers(n):
            yield from range(n)
        async def later(x):
            await asyncio.sleep(0)
            return x
        def run_later(x):
            return asyncio.run(later(x))
        def counter():
            count = 0
            def step():
                nonlocal count
                count += 1
                return count
            return step
        def typed(x: UserId) -> "NotDefinedAnywhere":
            return UserId(x)
        def defaults(a, b=(1, 2), *, c=3):
            return a, b, c
        class Callable:
            def __init__(self, n):
                self.n = n
            def __call__(self, x):
                return self.n + x
        class Holder:
            action = staticmethod(lambda x: x + 1)
            items = [(lambda i: lambda: i)(i) for i in range(3)]
        class Decorator:
            def __init__(self, function):
                functools.update_wrapper(self, function)
                self.function = function
            def __call__(self, *args):
                return ["decorated", self.function(*args)]
        @Decorator
        def by_class(x):
            return x
        @functools.singledispatch
        def shown(x):
            return "any"
        @shown.register
        def _(x: int):
            return "int"

        assert peer.call(factorial, 10) == 3628800
        assert peer.call(even, 10) is True
        assert peer.call(fibonacci, 80) == 23416728348467685
        sent = peer.blobs_sent
        assert peer.call(fibonacci, 80) == 23416728348467685
        assert peer.blobs_sent == sent
        assert peer.call(decorated, 5) == ("logged", 5)
        assert peer.call(lambda n: list(numbers(n)), 3) == [0, 1, 2]
        assert peer.call(run_later, 4) == 4
        assert peer.call(typed, 3) == 3
        assert peer.call(defaults, 1) == (1, (1, 2), 3)
        defaults.__kwdefaults__["c"] = 4
        assert peer.call(defaults, 1) == (1, (1, 2), 4)
        defaults.__defaults__ = (9,)
        assert peer.call(defaults, 1) == (1, 9, 4)
        step = counter()
        assert step() == 1
        assert peer.call(step) == 2
        assert step() == 2
        assert peer.call(step) == 3
        c = Callable(1)
        assert peer.call(c, 1) == 2
        c.n = 10
        assert peer.call(c, 1) == 11
        assert peer.call(functools.partial(factorial, n=4)) == 24
        assert peer.call(functools.partial(map, factorial), [1, 2]).__next__() == 1
        assert peer.call(Holder.action, 1) == 2
        assert [peer.call(f) for f in Holder.items] == [0, 1, 2]
        assert peer.call(by_class, 1) == ["decorated", 1]
        assert peer.call(shown, "") == "any" and peer.call(shown, 1) == "int"
        assert peer.call(str.upper, "a") == "A"
        items = [1]
        assert peer.call(items.count, 1) == 1
        items.append(1)
        assert peer.call(items.count, 1) == 2
        assert peer.call(os.path.join, "a", "b") == "a/b"
        assert peer.call(dict.fromkeys, "a") == {"a": None}
        assert peer.call(lambda f, x: f(x), factorial, 5) == 120
        assert peer.call(map, factorial, [3]).__next__() == 6
        assert peer.call(lambda: factorial)(5) == 120
        assert peer.call(lambda: (lambda x: x + 1))(1) == 2
        assert peer.call(int, "12") == 12
        """
    )


def test_submodules_imported_later_are_there(run_script: RunScript) -> None:
    run_script(
        """
        import xml
        f = lambda: xml.sax.handler.__name__
        try:
            peer.call(f)
        except AttributeError:
            pass
        else:
            raise AssertionError
        import xml.sax.handler
        assert peer.call(f) == "xml.sax.handler"
        sent = peer.blobs_sent
        import wave
        assert peer.call(f) == "xml.sax.handler"
        assert peer.blobs_sent == sent
        """
    )


def test_classes_made_in_a_worker(run_script: RunScript) -> None:
    run_script(
        """
        import collections
        def make():
            class Local:
                def __init__(self, n): self.n = n
            Local.__qualname__ = "Local"
            return Local
        def instance():
            Pair = collections.namedtuple("Pair", "a b")
            return Pair(1, 2)
        assert peer.call(instance).b == 2
        Local = peer.call(make)
        assert Local(1).n == 1
        assert peer.call(lambda x: x.n, Local(5)) == 5
        assert type(peer.call(lambda x: x, Local(5))) is Local
        """
    )
