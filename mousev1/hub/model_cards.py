"""Model cards: what the ``README.md`` of a core or of a fitted readout says about it.

A card states what can be read off the object and the registry, and nothing else. What only people
know (animal, area, indicator) belongs in ``model_cards/readout_template.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mousev1.core.network import Core, CoreConfig
from mousev1.core.representation import FeatureConfig
from mousev1.hub.registry import ReleasedCore, find_released
from mousev1.metrics.intervals import mean_of_defined
from mousev1.metrics.score_names import RECORDING_SCORES, SCORES, TABLE_SCORES

if TYPE_CHECKING:
    from mousev1.metrics.score_table import ScoreTable
    from mousev1.model.response_model import ResponseModel

TAGS = ["neuroscience", "visual-cortex", "mouse-v1", "system-identification"]
SIMULATED = (
    "**This core was trained on SIMULATED recordings, not on neurons.** It shows how the library works; "
    "what it predicts says nothing about a real visual cortex."
)


def core_card(core: Core, *, licence: str | None = None) -> str:
    """The card of a core.

    Args:
        core: the core.
        licence: a licence identifier of the Hub, such as ``"mit"``; by default that of the registry, if
            the core is a released one.
    """
    released = find_released(core.content_hash())
    parts = [
        _front_matter(licence or _licence_id(released)),
        f"# {core.name}: a core of mouse primary visual cortex\n",
        _about(released),
        "## Architecture\n\n" + architecture(core.config),
        input_contract(core.config),
        f"## Identity\n\nContent hash: `{core.content_hash()}`\n",
        _USE_CORE,
        _citation(released),
    ]
    return "\n".join(part for part in parts if part)


def readout_card(
    model: ResponseModel,
    *,
    scores: ScoreTable | None = None,
    repo_id: str | None = None,
    dataset: str = "a recording of the authors",
    licence: str | None = None,
) -> str:
    """The card of a fitted readout.

    Args:
        model: the fitted model.
        scores: from ``model.score`` on trials that the fit has not seen; they become the results in
            the card's metadata. Scores that are undefined for every neuron are left out.
        repo_id: where the model will be, for the example.
        dataset: what it was scored on, in words.
        licence: a licence identifier of the Hub, such as ``"cc-by-4.0"``; none is stated by default.
    """
    core, record = model.core, model.record
    released = find_released(core.content_hash())
    where = repo_id or "FOLDER"
    means = {} if scores is None else mean_scores(scores)
    resolution = record.pixels_per_degree or core.config.input.pixels_per_degree
    parts = [
        _front_matter(licence, name=where.split("/")[-1], results=means, dataset=dataset),
        f"# Responses of {model.n_units} neurons of mouse visual cortex\n",
        SIMULATED + "\n" if released is not None and released.simulated else "",
        f"## What it is\n\nA readout of {model.n_units} neurons on the frozen core `{core.name}` (content hash "
        f"`{core.content_hash()}`). Fitted by `{record.method}` to {record.n_images} distinct images with "
        f"{resolution:g} pixels per degree of visual angle. It predicts in the units of the recorded responses.\n",
        "".join(f"- {note}\n" for note in record.notes),
        input_contract(core.config),
        "## Results\n\n" + _score_table(scores, record.scores),
        f'## How to use it\n\n```python\nimport mousev1\n\nmodel = mousev1.load_model("{where}")\n'
        "rates = model.predict(images)  # (N, H, W) gray values to (N, neurons)\n```\n",
        "## When not to use it\n\n- For other neurons than these: a readout belongs to its neurons and to one "
        "core.\n- For images at another resolution without passing `pixels_per_degree`, or far from natural "
        "scenes without checking.\n- For responses that depend on running, pupil or time: the model sees the "
        "image alone.\n",
        _citation(released),
    ]
    return "\n".join(part for part in parts if part)


def mean_scores(scores: ScoreTable) -> dict[str, float]:
    """Mean of every score over the neurons where it is defined; scores defined for no neuron are left out."""
    means = {name: mean_of_defined(getattr(scores, name)) for name in TABLE_SCORES}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def input_contract(config: FeatureConfig) -> str:
    """The section of a card that says what images must be."""
    contract = config.input
    low, high = contract.value_range
    scaling = (
        "none: the core sees the gray values as they are"
        if (contract.mean, contract.std) == (0.0, 1.0)
        else f"the core subtracts {contract.mean:g} and divides by {contract.std:g} itself"
    )
    return (
        "## Input contract\n\n| | |\n|---|---|\n"
        f"| gray values | {low:g} to {high:g} |\n"
        f"| channels | {config.input_channels} |\n"
        f"| resolution | {contract.pixels_per_degree:g} pixels per degree of visual angle |\n"
        f"| frame in training | {contract.height} x {contract.width} pixels (height x width) |\n"
        f"| normalisation | {scaling} |\n"
    )


def architecture(config: CoreConfig) -> str:
    """The paragraph of a card that says how large the network is."""
    first, rest = config.input_kernel, config.hidden_kernel
    return (
        f"{config.layers} layers of {config.hidden_channels} channels: a {first}x{first} convolution without "
        f"padding, then depth-separable {rest}x{rest} convolutions that keep the size of the map, each with "
        f"batch norm and ELU. One feature sees {config.receptive_field}x{config.receptive_field} pixels.\n"
    )


# ---------------------------------------------------------------- parts

_USE_CORE = """\
## How to use it

```python
import mousev1

core = mousev1.load_core("FOLDER or owner/repo")
model = mousev1.fit_readout(images, responses, positions, core=core)
```

## When not to use it

- For images at another resolution or with other gray values than the input contract says.
- As a model of other species, areas or brain states than those of its training recordings.
- For behaviour or time: the core sees single images alone.
"""


def _front_matter(
    licence: str | None,
    *,
    name: str | None = None,
    results: Mapping[str, float] | None = None,
    dataset: str = "",
) -> str:
    # huggingface_hub takes half a second to import
    from huggingface_hub import EvalResult, ModelCardData

    evaluated = [
        EvalResult(
            task_type="other",
            task_name="prediction of neural responses",
            dataset_type="neural-recording",
            dataset_name=dataset,
            metric_type=metric,
            metric_name=SCORES[metric],
            metric_value=round(value, 4),
        )
        for metric, value in (results or {}).items()
        if metric not in RECORDING_SCORES
    ]
    data = ModelCardData(
        library_name="mousev1",
        license=licence,
        tags=TAGS,
        model_name=name if evaluated else None,
        eval_results=evaluated or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _licence_id(released: ReleasedCore | None) -> str | None:
    if released is None:
        return None
    return {"MIT": "mit"}.get(released.licence, "unknown")


def _about(released: ReleasedCore | None) -> str:
    if released is None:
        return (
            "A convolutional network whose features linear readouts turn into responses of neurons. It is "
            "none of the cores that mousev1 knows by name.\n"
        )
    warning = SIMULATED + "\n\n" if released.simulated else ""
    return (
        f"{warning}`{released.name}`, {released.summary}.\n\nLicence of the weights: {released.licence}.\n"
        + (f"\nPublished by its authors at {released.origin.url}\n" if released.origin else "")
    )


def _citation(released: ReleasedCore | None) -> str:
    return "" if released is None else f"## Citation\n\n{released.citation}\n"


def _score_table(scores: ScoreTable | None, recorded: Mapping[str, float]) -> str:
    if scores is None:
        if not recorded:
            return "None were given.\n"
        rows = [f"| {name} | {value:.4f} |" for name, value in recorded.items() if math.isfinite(value)]
        return "\n".join(["From the fit itself:\n", "| score | mean |", "|---|---|", *rows]) + "\n"
    means = mean_scores(scores)
    rows = []
    for name in TABLE_SCORES:
        values = np.atleast_1d(np.asarray(getattr(scores, name), dtype=np.float64))
        undefined = "" if name == "fraction_oracle" else str(int((~np.isfinite(values)).sum()))
        value = f"{means[name]:.4f}" if name in means else "undefined"
        rows.append(f"| {SCORES[name]} | {value} | {undefined} |")
    heads = ["| score | mean over neurons | neurons without it |", "|---|---|---|"]
    return "\n".join([*heads, *rows]) + "\n"
