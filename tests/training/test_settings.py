"""Claims about the reader of configs; the oracles are the messages, worked out from what is wrong with the file."""

from __future__ import annotations

from dataclasses import field

import pytest
from pydantic.dataclasses import dataclass

from training.settings import STRICT, Counts, FolderName, Positive, Settings, WholeNumber, one_of


@dataclass(frozen=True, config=STRICT)
class Lamp:
    """Something in the room."""

    power: Positive
    colour: str = "white"


@dataclass(frozen=True, config=STRICT)
class Room(Settings):
    """A config with every kind of value."""

    name: FolderName
    seats: WholeNumber = 4
    warm: bool = True
    sizes: Counts = (1, 2)
    lamps: tuple[Lamp, ...] = ()
    best: Lamp | None = None
    prices: dict[int, float] = field(default_factory=dict)


FULL = """
name = "study"
seats = 2
sizes = [3, 4]
prices = { 50 = 1, 200 = 2.5 }
best = { power = 7 }
lamps = [{ power = 5, colour = "red" }]
"""


def test_a_file_is_read_into_typed_values_and_written_as_it_was(tmp_path):
    path = tmp_path / "room.toml"
    path.write_text(FULL)
    room = Room.read(path)
    assert room == Room(
        "study", seats=2, sizes=(3, 4), lamps=(Lamp(5.0, "red"),), best=Lamp(7.0), prices={50: 1.0, 200: 2.5}
    )
    assert type(room.lamps[0].power) is float
    assert Room.from_dict(room.to_dict()) == room
    assert room.to_dict()["sizes"] == [3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seats = 1", "missing 'name', which has no default"),
        ("name = 'a/b'", "name: expected a text that can name a folder, got 'a/b'"),
        ("name = 'x'\nseat = 1", "unknown key 'seat'; valid keys are 'best', 'lamps', 'name'"),
        ("name = 'x'\n[[lamps]]\n[[lamps]]\npower = 1", r"missing 'lamps\[0\].power'"),
        (
            "name = 'x'\n[[lamps]]\npower = 1\nheat = 2",
            r"table \[lamps\[0\]\]: unknown key 'heat'; valid keys are 'colour', 'power'",
        ),
        ("name = 'x'\n[best]\npower = 1\nheat = 2", r"table \[best\]: unknown key 'heat'; .* 'power'"),
        ("name = 'x'\nseats = true", "seats: expected a whole number, got True"),
        ("name = 'x'\nseats = 2.0", "seats: expected a whole number, got 2.0"),
        ("name = 'x'\nseats = '2'", "seats: expected a whole number, got '2'"),
        ("name = 'x'\nwarm = 1", "warm: expected true or false, got 1"),
        ("name = 'x'\nsizes = [2, 2]", r"sizes: expected every value once, got \[2, 2\]"),
        ("name = 'x'\nsizes = 2", "sizes: expected a list, got 2"),
        ("name = 'x'\nbest = 2", "best: expected a table, got 2"),
        ("name = 'x'\nbest = { power = nan }", "best.power: expected a finite number, got nan"),
        ("name = 'x'\nbest = { power = -inf }", "best.power: expected a finite number, got -inf"),
        ("name = 'x'\nprices = { many = 1 }", "prices.many: expected a whole number, got 'many'"),
        ("name = 'x'\nseats = -1\nwarm = 2", "seats: expected at least 0, got -1; warm: expected true"),
        ("name = ", "config is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_key_expected_and_given(tmp_path, text, message):
    path = tmp_path / "room.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"room\.toml: {message}"):
        Room.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config: no file .*lost\.toml"):
        Room.read(tmp_path / "lost.toml")


def test_a_name_outside_of_the_choices_is_refused_with_all_of_them():
    check = one_of(("red", "green")).func
    assert check("red") == "red"
    with pytest.raises(ValueError, match="expected one of 'red', 'green', got 'blue'"):
        check("blue")
