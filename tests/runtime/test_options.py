import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocalsep_jax.runtime.options import Rule, check_fields, checked, is_section, option, rule_of

NAMES = {"one": 1, "two": 2}


@dataclasses.dataclass(frozen=True)
class Inner:
    share: float = option(0.5, least=0, most=1)


@dataclasses.dataclass(frozen=True)
class Example:
    count: int = option(1, least=1, may_change=True)
    scale: float = option(1.0, above=0)
    name: str = option("one", choices=NAMES)
    text: str = option("")
    flag: bool = option(False)
    names: tuple[str, ...] = option(())
    factors: tuple[float, ...] = option((), least=0.5, most=2, items=float)
    free: float = 0.0
    inner: Inner = dataclasses.field(default_factory=Inner)


FIELDS = {field.name: field for field in dataclasses.fields(Example)}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule(), ""),
        (Rule(("a", "b")), "one of a, b"),
        (Rule(least=0.5, most=2, items=float), "from 0.5 to 2"),
        (Rule(least=0, most=1), "from 0 to 1"),
        (Rule(least=0, below=2**32), "at least 0 and below 4294967296"),
        (Rule(least=1), "at least 1"),
        (Rule(above=0.5), "above 0.5"),
        (Rule(below=3), "below 3"),
    ],
)
def test_rules_in_words(rule, text):
    assert rule.text() == text


@pytest.mark.parametrize(
    ("rule", "allowed", "not_allowed"),
    [
        (Rule(least=1), [1, 2, 10**400], [0, -1, math.nan, math.inf]),
        (Rule(least=0, most=1), [0, 0.5, 1], [-0.01, 1.01]),
        (Rule(above=0, below=3), [1, 2.99], [0, 3]),
        (Rule(("a", "b")), ["a"], ["c", ""]),
        (Rule(), [0, -1e300, "x", ("x",)], [math.nan, math.inf, -math.inf]),
        (Rule(least=0.5, most=2), [(), (0.5, 2), (1.0,)], [(0.4,), (1.0, 2.1), (math.nan,), (1, math.inf)]),
        (Rule(("a", "b")), [], [("a", "c")]),
    ],
)
def test_what_rules_allow(rule, allowed, not_allowed):
    assert [value for value in allowed + not_allowed if rule.allows(value)] == allowed


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("count", 3, 3),
        ("scale", 2, 2.0),
        ("scale", 0.1, 0.1),
        ("name", "two", "two"),
        ("text", "a\nb", "a\nb"),
        ("flag", True, True),
        ("names", ["a", "b"], ("a", "b")),
        ("names", (), ()),
        ("factors", (), ()),
        ("factors", [0.9, 1.1], (0.9, 1.1)),
        ("factors", (1, 2), (1.0, 2.0)),
        ("factors", [0.5], (0.5,)),
    ],
)
def test_what_a_field_takes_it_holds_in_its_own_type(name, value, kept):
    found = checked(value, FIELDS[name], name)
    assert found == kept
    assert type(found) is type(kept)
    if isinstance(kept, tuple):
        assert list(map(type, found)) == list(map(type, kept))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("count", 0, "a.count must be a whole number, at least 1, not 0"),
        ("count", 1.0, "a.count must be a whole number, at least 1, not 1.0"),
        ("scale", False, "a.scale must be a number, above 0, not False"),
        ("name", "three\n", r"a.name must be one of one, two, not 'three\n'"),
        ("name", ["one"], "a.name must be one of one, two, not ['one']"),
        ("text", None, "a.text must be text, not None"),
        ("flag", "true", "a.flag must be True or False, not 'true'"),
        ("names", ("a", 1), "a.names must be names, as ('A', 'B'), not ('a', 1)"),
        *(
            ("factors", value, f"a.factors must be numbers, as (0.9, 1.1), from 0.5 to 2, not {value!r}")
            for value in (
                0.9,
                "0.9",
                ["0.9"],
                (0.9, None),
                [True],
                (0.4,),
                [1.0, 2.1],
                (math.nan,),
                [math.inf],
                [10**400],
                {0.9},
                {0.9: 1},
                [[0.9]],
            )
        ),
        ("free", 10**400, f"a.free must be a number, not {10**400}"),
    ],
)
def test_one_line_says_what_a_field_does_not_take(name, value, message):
    with pytest.raises(ValueError, match="must be") as error:
        checked(value, FIELDS[name], f"a.{name}")
    assert str(error.value) == message


@given(
    st.sampled_from(sorted(FIELDS.keys() - {"inner"})),
    st.integers() | st.floats() | st.text() | st.lists(st.integers() | st.floats(), max_size=3),
)
def test_what_was_taken_is_taken_again(name, value):
    kind = type(FIELDS[name].default)
    try:
        kept = checked(value, FIELDS[name], name)
    except ValueError as error:
        (line,) = str(error).splitlines()
        assert line.startswith(f"{name} must be ")
    else:
        assert (type(kept), kept) == (kind, kind(value))
        assert checked(kept, FIELDS[name], name) == kept


def test_choices_are_those_there_are_at_the_time(monkeypatch):
    monkeypatch.setitem(NAMES, "three", 3)
    assert checked("three", FIELDS["name"], "name") == "three"


def test_a_rule_is_read_from_its_field():
    assert rule_of(FIELDS["count"]) == Rule(least=1, may_change=True)
    assert rule_of(FIELDS["free"]) == Rule()


def test_fields_are_checked_but_those_of_sections():
    assert [name for name, field in FIELDS.items() if is_section(field)] == ["inner"]
    check_fields(Example(inner=Inner(share=2.0)))
    with pytest.raises(ValueError, match=r"^a\.count must be a whole number, at least 1, not 0$"):
        check_fields(Example(count=0), "a.")
