"""The file tree that Lurz et al. 2021 and the Sensorium competition publish scans in.

One scan is a folder, or a zip of it, read without unpacking::

    data/images/<trial>.npy          (C, H, W) or (H, W) picture of each trial, uint8 or float
    data/responses/<trial>.npy       (U,) response of every neuron in that trial
    meta/trials/tiers.npy            (T,) train, validation, test
    meta/trials/frame_image_id.npy   (T,) equal numbers (or strings) are repeats of one picture
    meta/neurons/unit_ids.npy        (U,)
    meta/neurons/cell_motor_coordinates.npy    (U, 3) cortical position in micrometres; optional
    meta/neurons/multi_match_id.npy  (U,) the neuron's number across scans, -1 for none; optional
    meta/neurons/animal_ids.npy      (U,) one and the same animal; optional
    meta/neurons/<other>.npy         (U, ...) kept as ``Scan.neuron_meta``

Trials count from 0. Behaviour, pupil and the order of trials are read as ``file_tree_covariates``
describes; other folders and files (statistics) are not read. Image ids may
also be called as in ``IMAGE_ID_FILES``, and where pictures of several classes share numbers, the id
is ``"class/number"``, since number and class together name a picture in these files.

Trials of the tiers ``"none"`` and ``""`` belong to no tier and are left out. Any other unknown tier is
an error until ``tiers=`` says what it is: the Sensorium competition's ``"final_test"``, for example,
and its ``"test"`` have their responses withheld in the files of the two competition mice.

What the format cannot say is written besides, under ``meta/mousev1``: the scan's name and the order of
the images. Other readers pass over it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from mousev1.data import npy
from mousev1.data.archive import Tree, open_tree
from mousev1.data.cleaning import translated_tiers
from mousev1.data.file_tree_covariates import read_covariates
from mousev1.data.validation import Array, checked_image_ids, trial_image_index
from mousev1.errors import listing
from mousev1.storage.reading import parse_json

FORMAT = "mousev1 file tree"
FORMAT_VERSION = 1
MARKER = "meta/mousev1/scan.json"
IMAGE_ORDER = "meta/mousev1/image_ids.npy"
IMAGE_ID_FILES = ("image_id", "colorframeprojector_image_id", "frame_image_id", "condition_hash")
NEURON_FILES = ("unit_ids", "cell_motor_coordinates", "multi_match_id", "animal_ids")


def read_file_tree(
    path: Path, *, tiers: Mapping[str, str | None] | None = None, progress: bool = False
) -> dict[str, Any]:
    """The fields of the scan in a folder or zip; see ``mousev1.read_scan``."""
    with open_tree(path) as tree:
        return _read(tree, tiers or {}, progress)


def _read(tree: Tree, tiers: Mapping[str, str | None], progress: bool) -> dict[str, Any]:
    marker = _marker(tree)
    file_tiers = _strings(tree, "meta/trials/tiers.npy")
    trial_ids = _image_ids(tree, len(file_tiers))
    numbers, tier_names = _kept_trials(tree, file_tiers, tiers)
    _check_numbering(tree, "data/images", numbers, len(file_tiers))
    _check_numbering(tree, "data/responses", numbers, len(file_tiers))
    image_ids = _image_order(tree, trial_ids[numbers])
    trial_image = trial_image_index(image_ids, trial_ids[numbers])

    first = _array(tree, f"data/images/{numbers[0]}.npy")
    n_units = _array(tree, f"data/responses/{numbers[0]}.npy").size
    images = np.empty((len(image_ids), *_with_channel(first).shape), _image_dtype(first))
    responses = np.empty((len(numbers), n_units), np.float32)
    filled = np.zeros(len(image_ids), bool)

    for row, number in enumerate(tqdm(numbers, desc="Reading trials", unit="trial", disable=not progress)):
        _read_response(tree, f"data/responses/{number}.npy", responses[row])
        _read_image(tree, f"data/images/{number}.npy", first, images, filled, int(trial_image[row]))
    if marker is None:
        _refuse_withheld(tree, responses, file_tiers[numbers])

    neurons = _neurons(tree, n_units)
    animal_id = _animal_id(neurons, marker)
    return {
        "name": tree.name if marker is None else marker["name"],
        "images": images,
        "image_ids": image_ids,
        "trial_image": trial_image,
        "tiers": tier_names,
        "responses": responses,
        "unit_ids": neurons.pop("unit_ids", None),
        "positions": neurons.pop("cell_motor_coordinates", None),
        "match_ids": neurons.pop("multi_match_id", None),
        "animal_id": animal_id,
        "neuron_meta": neurons,
        "covariates": read_covariates(tree, numbers, len(file_tiers), own=marker is not None),
    }


# ---------------------------------------------------------------- trials


def _kept_trials(
    tree: Tree, file_tiers: NDArray[np.str_], tiers: Mapping[str, str | None]
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Numbers of the trials to read, and the tier of each, after the caller's ``tiers`` mapping."""
    targets = translated_tiers(file_tiers, tiers, tree.where("meta/trials/tiers.npy"))
    numbers = np.flatnonzero(targets != "")
    return numbers, targets[numbers]


def _image_ids(tree: Tree, n_trials: int) -> Array:
    """(T,) id of the picture of each trial of the file."""
    files = tree.children("meta/trials")
    name = next((name for name in IMAGE_ID_FILES if f"{name}.npy" in files), None)
    if name is None:
        raise ValueError(
            f"{tree.where('meta/trials/frame_image_id.npy')}: missing, and so are its other names "
            f"{listing(IMAGE_ID_FILES)}; save there which image each trial showed"
        )
    member = f"meta/trials/{name}.npy"
    ids = _named(tree, member, checked_image_ids)
    if len(ids) != n_trials:
        raise ValueError(f"{tree.where(member)}: expected {n_trials} ids as in tiers.npy, got {len(ids)}")
    class_file = f"meta/trials/{name.replace('_id', '_class')}.npy"
    if name == "condition_hash" or not tree.has(class_file):
        return ids
    classes = _strings(tree, class_file)
    if len(classes) != n_trials:
        raise ValueError(f"{tree.where(class_file)}: expected {n_trials} as in tiers.npy, got {len(classes)}")
    joined = np.char.add(np.char.add(classes, "/"), ids.astype(str))
    return joined if len(np.unique(joined)) > len(np.unique(ids)) else ids


def _check_numbering(tree: Tree, folder: str, numbers: NDArray[np.int64], n_trials: int) -> None:
    there = {name[:-4] for name in tree.children(folder) if name.endswith(".npy") and name[0] != "."}
    missing = [number for number in numbers if str(number) not in there]
    if missing:
        raise ValueError(
            f"{tree.where(f'{folder}/{missing[0]}.npy')}: missing ({len(missing)} of {len(numbers)} trials "
            "are); fetch or export the scan again"
        )
    extra = sorted(there - {str(number) for number in range(n_trials)})
    if extra:
        raise ValueError(
            f"{tree.where(f'{folder}/{extra[0]}.npy')}: expected trials 0 to {n_trials - 1} as in tiers.npy, "
            f"got {len(extra)} more; data and meta are not of the same scan"
        )


def _image_order(tree: Tree, shown_ids: Array) -> Array:
    """Ids of the distinct images that trials show, in the scan's own order if it has one."""
    if not tree.has(IMAGE_ORDER):
        return np.unique(shown_ids)
    order = _named(tree, IMAGE_ORDER, checked_image_ids)
    # tiers= may have left out trials, and their images with them.
    return order[np.isin(order, shown_ids)]


def _read_response(tree: Tree, member: str, row: NDArray[np.float32]) -> None:
    response = _array(tree, member)
    if response.shape != row.shape or response.dtype.kind not in "uif":
        raise ValueError(
            f"{tree.where(member)}: expected {row.shape} numbers as in the first trial, got {response.dtype} "
            f"{response.shape}; fetch or export the scan again"
        )
    row[:] = response


def _read_image(
    tree: Tree, member: str, first: Array, images: Array, filled: NDArray[np.bool_], index: int
) -> None:
    """Store a picture once; every further showing must be the very same picture."""
    image = _array(tree, member)
    if (image.shape, image.dtype) != (first.shape, first.dtype):
        raise ValueError(
            f"{tree.where(member)}: expected {first.dtype} {first.shape} as in the first trial, got "
            f"{image.dtype} {image.shape}; fetch or export the scan again"
        )
    image = _with_channel(image).astype(images.dtype, copy=False)
    if not filled[index]:
        images[index], filled[index] = image, True
    elif images[index].tobytes() != image.tobytes():
        raise ValueError(
            f"{tree.where(member)}: differs from an earlier picture with the same image id; ids must tell "
            "distinct pictures apart, or trials would count as repeats that are none"
        )


def _refuse_withheld(tree: Tree, responses: NDArray[np.float32], names: NDArray[np.str_]) -> None:
    """A tier of nothing but zeros or NaN, in a scan that has responses, is a tier without its data."""
    alive = np.array([np.any((row != 0) & ~np.isnan(row)) for row in responses])
    withheld = [str(tier) for tier in np.unique(names) if not alive[names == tier].any()]
    if withheld and alive.any():
        example = ", ".join(f"{tier!r}: None" for tier in withheld)
        raise ValueError(
            f"{tree.where('data/responses')}: all responses of the tier {listing(withheld)} are zero or NaN "
            f"({np.isin(names, withheld).sum()} trials): withheld, as in the files of the Sensorium "
            f"competition mice. Pass tiers={{{example}}} to read the scan without those trials"
        )


# ---------------------------------------------------------------- neurons and the rest


def _neurons(tree: Tree, n_units: int) -> dict[str, Array]:
    """Arrays about the neurons; those of the format are checked, others are left out if unusable."""
    found = {}
    for file in tree.children("meta/neurons"):
        name, member = file.removesuffix(".npy"), f"meta/neurons/{file}"
        if not file.endswith(".npy") or file.startswith("."):
            continue
        try:
            array = _array(tree, member)
            if array.shape[:1] != (n_units,):
                raise ValueError(
                    f"{tree.where(member)}: expected {n_units} rows, one per neuron, got {array.shape}"
                )
        except ValueError as error:
            if name in NEURON_FILES:
                raise
            warnings.warn(f"left out of neuron_meta: {error}", stacklevel=5)
            continue
        array = array.astype(str) if array.dtype.kind == "S" else array
        found[name] = array.astype(array.dtype.newbyteorder("="))
    return found


def _animal_id(neurons: dict[str, Array], marker: dict[str, Any] | None) -> str | None:
    """The one animal of ``animal_ids``, taken out of the arrays; several stay as they are."""
    if marker is not None:
        if marker["animal_id"] is not None:
            neurons.pop("animal_ids", None)
        animal: str | None = marker["animal_id"]
        return animal
    animals = np.unique(neurons.get("animal_ids", np.empty(0)))
    if len(animals) != 1:
        return None
    del neurons["animal_ids"]
    return str(animals[0])


def _marker(tree: Tree) -> dict[str, Any] | None:
    if not tree.has(MARKER):
        return None
    try:
        values = parse_json(tree.read(MARKER), tree.where(MARKER))
        version, known = values["format_version"], {"name", "animal_id"} <= set(values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{tree.where(MARKER)}: not valid ({error}); write the scan again") from error
    if not known or not isinstance(version, int):
        raise ValueError(
            f"{tree.where(MARKER)}: expected name, animal_id and a whole format_version; write it again"
        )
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{tree.where(MARKER)}: format version {version} is newer than this mousev1 reads "
            f"({FORMAT_VERSION}); upgrade with `pip install -U mousev1`"
        )
    return dict(values)


def _array(tree: Tree, member: str) -> Array:
    return npy.decode(tree.read(member), tree.where(member))


def _strings(tree: Tree, member: str) -> NDArray[np.str_]:
    array = _array(tree, member)
    if array.dtype.kind not in "US" or array.ndim != 1:
        raise ValueError(f"{tree.where(member)}: expected a list of names, got {array.dtype} {array.shape}")
    return array.astype(str)


def _named(tree: Tree, member: str, check: Any) -> Array:
    try:
        return np.array(check(_array(tree, member)))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{tree.where(member)}: {error}") from error


def _with_channel(image: Array) -> Array:
    return image[None] if image.ndim == 2 else image


def _image_dtype(image: Array) -> type[np.uint8] | type[np.float32]:
    return np.uint8 if image.dtype == np.uint8 else np.float32
