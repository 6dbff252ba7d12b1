"""The rig: screen, picture on it, microscope. From a JSON file, a dict, or given value by value."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mousev1.errors import listing
from mousev1.ingest.report import Report
from mousev1.ingest.tables import words
from mousev1.storage.reading import read_json

CENTIMETRES = {"mm": 0.1, "cm": 1.0, "m": 100.0, "in": 2.54, "inch": 2.54, "inches": 2.54}
_SCREEN = {"screen", "monitor", "display"}
_PICTURE = {"picture", "image", "stimulus", "pictures", "images", "stimuli"}
_DEGREES = {"deg", "degs", "degree", "degrees"}
_MICROMETRES = {"um", "µm", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"}
_PIXEL = {"pixel", "px", "pix", "pixels"}


@dataclass(frozen=True, kw_only=True)
class Rig:
    """Sizes in the unit that each name says; None where unknown.

    Attributes:
        screen_width_cm, screen_height_cm: of the lit screen.
        screen_distance_cm: from the eye to the centre of the screen.
        screen_width_px, screen_height_px: pixels of the screen; only for pictures placed by pixels.
        picture_width_deg, picture_height_deg: of the picture; or ``_cm``, or ``_px``. The full screen without.
        picture_pixels_per_degree: of the picture files, in place of all sizes.
        picture_center_deg: x (right) and y (up) of the picture's centre from that of the screen.
        background_gray: of the screen around the picture, 0 to 255.
        gamma: of a monitor without correction: luminance goes with gray value to this power.
        um_per_pixel: micrometres per pixel of the microscope: one number, or x and y.
        plane_depths_um: depth of each plane, in the order of the planes.
        frame_rate: frames of each plane per second.
        plane_delays_s: seconds from the start of a volume to each plane.
    """

    screen_width_cm: float | None = None
    screen_height_cm: float | None = None
    screen_distance_cm: float | None = None
    screen_width_px: float | None = None
    screen_height_px: float | None = None
    picture_width_deg: float | None = None
    picture_height_deg: float | None = None
    picture_pixels_per_degree: float | None = None
    picture_width_cm: float | None = None
    picture_height_cm: float | None = None
    picture_width_px: float | None = None
    picture_height_px: float | None = None
    picture_center_deg: tuple[float, float] | None = None
    background_gray: float | None = None
    gamma: float | None = None
    um_per_pixel: tuple[float, float] | None = None
    plane_depths_um: tuple[float, ...] | None = None
    frame_rate: float | None = None
    plane_delays_s: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        pairs = ("picture_center_deg", "um_per_pixel")
        several = ("plane_depths_um", "plane_delays_s")
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name in pairs + several:
                value = tuple(float(v) for v in (value if isinstance(value, Iterable) else (value,)))
                value = value * 2 if field.name == "um_per_pixel" and len(value) == 1 else value
                if field.name in pairs and len(value) != 2:
                    raise ValueError(f"rig: {field.name}: expected x and y, got {value}")
            else:
                value = float(value)
            numbers = value if isinstance(value, tuple) else (value,)
            signed = (*several, "picture_center_deg", "background_gray")
            if not all(math.isfinite(v) and (v > 0 or field.name in signed) for v in numbers):
                raise ValueError(f"rig: {field.name}: expected positive numbers, got {value}")
            object.__setattr__(self, field.name, value)
        if self.background_gray is not None and not 0 <= self.background_gray <= 255:
            raise ValueError(f"rig: background_gray: expected 0 to 255, got {self.background_gray}")


def read_rig(source: str | Path | Mapping[str, Any] | Rig | None, report: Report) -> Rig:
    """A rig from a JSON file or a dict with keys as labs write them (``monitor width [mm]``).

    Raises:
        ValueError: no JSON object, or a key that says what it is with a value that cannot be.
    """
    if source is None or isinstance(source, Rig):
        return source or Rig()
    if isinstance(source, str | Path):
        if not Path(source).is_file():
            raise FileNotFoundError(f"rig: expected a JSON file, found nothing at {source}")
        try:
            values = read_json(Path(source))
        except ValueError as error:
            raise ValueError(f"rig: {error}, or give the values as options") from error
    else:
        values = dict(source)
    if not isinstance(values, dict):
        raise ValueError(f"rig: expected names with values, got {type(values).__name__}")
    known: dict[str, Any] = {}
    used: list[str] = []
    unused: list[str] = []
    for key, value in _flat(values):
        found = _recognised(key, value, report)
        known |= found
        (used if found else unused).append(key)
    report.read.append(f"rig: {', '.join(used) or 'nothing'}")
    if unused:
        report.notes.append(
            f"rig: not used: {', '.join(unused)}; names in use: {', '.join(f.name for f in fields(Rig))}"
        )
    try:
        return Rig(**known)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"rig: a value is none that can be used ({error}); correct it in {source}"
        ) from error


def merged(rig: Rig, **values: Any) -> Rig:
    """The rig with values that were given one by one; None leaves what is there."""
    return replace(rig, **{name: value for name, value in values.items() if value is not None})


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Keys and values, those of inner objects with the outer key before them."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", value


def _recognised(key: str, value: Any, report: Report) -> dict[str, Any]:
    """Fields of ``Rig`` that one entry of a file is."""
    name = set(words(key))
    if "_".join(words(key)) in {field.name for field in fields(Rig)}:
        return {"_".join(words(key)): value}
    if isinstance(value, str):
        return _described(key, value.lower(), report) if name & _PICTURE else {}
    if name & {"gray", "grey", "background"} and _is_number(value):
        if 0 < value < 1:
            report.assumed.append(f"rig: '{key}' is a part of white: {255 * value:g} of 255")
            return {"background_gray": 255 * float(value)}
        return {"background_gray": float(value)}
    if (name >= {"pixels", "per"} and name & _DEGREES) or name & {"ppd"}:
        return {"picture_pixels_per_degree": value}
    if "gamma" in name and _is_number(value):
        return {"gamma": float(value)}
    if (name & _PIXEL and name & (_MICROMETRES | {"size"})) and not name & _SCREEN:
        return {"um_per_pixel": value}
    if name & {"depth", "depths"} and not name & {"bit", "bits", "color", "colour"}:
        return {"plane_depths_um": value}
    other = name & (_SCREEN | _PICTURE | {"camera", "eye", "video", "behavior", "behaviour", "pupil"})
    if not other and (name & {"fs", "fps"} or name >= {"frame", "rate"} or name >= {"volume", "rate"}):
        return {"frame_rate": value}
    return _screen(name, value)


def _described(key: str, text: str, report: Report) -> dict[str, Any]:
    """A picture's position in words: its size, the gray around it."""
    found: dict[str, Any] = {}
    if gray := re.search(r"gr[ae]y\D{0,12}?(\d+(?:\.\d+)?)", text):
        found["background_gray"] = float(gray[1])
    number = r"(\d+(?:\.\d+)?)"
    if size := re.search(rf"{number}\s*(?:x|by)\s*{number}\s*(deg|°|cm)", text):
        unit = "cm" if size[3] == "cm" else "deg"
        found |= {f"picture_width_{unit}": float(size[1]), f"picture_height_{unit}": float(size[2])}
    elif "full" not in text:
        report.assumed.append(f"rig: '{key}' ({text}) gives no size: pictures fill the screen")
    return found


def _screen(name: set[str], value: Any) -> dict[str, Any]:
    unit = next((factor for form, factor in CENTIMETRES.items() if form in name), None)
    bare = not name - {"width", "height", "size", *CENTIMETRES}
    what = "screen" if name & _SCREEN or bare else "picture" if name & _PICTURE else None
    if "distance" in name and unit and _is_number(value):
        return {"screen_distance_cm": float(value) * unit}
    if what is None:
        return {}
    sides = [side for side in ("width", "height") if side in name]
    if (
        not sides
        and isinstance(value, list)
        and len(value) == 2
        and name & {"size", "resolution", "dimensions"}
    ):
        sides, values = ["width", "height"], value
    else:
        values = [value]
    if len(sides) != len(values) or not all(_is_number(v) for v in values):
        return {}
    if unit:
        return {f"{what}_{side}_cm": float(v) * unit for side, v in zip(sides, values, strict=True)}
    if name & (_PIXEL | {"resolution"}):
        return {f"{what}_{side}_px": float(v) for side, v in zip(sides, values, strict=True)}
    if name & _DEGREES:
        # Pictures fill the screen unless they have a size of their own.
        return {f"picture_{side}_deg": float(v) for side, v in zip(sides, values, strict=True)}
    return {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def screen_missing(rig: Rig) -> str | None:
    """What the screen's geometry lacks, in words, or None where the picture's position on it is known."""
    need = ("screen_width_cm", "screen_height_cm", "screen_distance_cm")
    missing = [name for name in need if getattr(rig, name) is None]
    if rig.picture_pixels_per_degree or (rig.picture_width_deg and rig.picture_height_deg):
        return None
    return listing(missing) if missing else None
