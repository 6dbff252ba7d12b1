"""The released cores: where each comes from, and how to know that one got the right bytes.

A core is accepted under a registered name only if its content hash is the one written here, from
wherever it came.
"""

from __future__ import annotations

from dataclasses import dataclass

from mousev1.core.network import InputContract

DEFAULT_CORE = "11-S"
BUNDLED_CORE = "sim-11S"


@dataclass(frozen=True)
class Origin:
    """A file that a core's authors published themselves, in their own format.

    Attributes:
        url: where the file is.
        sha256: of the file.
        variable: environment variable that replaces ``url``, for mirrors.
    """

    url: str
    sha256: str
    variable: str


@dataclass(frozen=True)
class ReleasedCore:
    """A core that the library knows by name.

    Attributes:
        name: what users pass to ``load_core``.
        summary: one line: what it was trained on.
        repository: Hub repository.
        revision: commit in that repository; None as long as none is published there, in which case
            the newest one is looked at and, as always, accepted only with the right content hash.
        weights_sha256: SHA-256 of ``model.safetensors``, None if the core has not been released yet.
        content_hash: ``Core.content_hash()``, None if the core has not been released yet.
        prior_sha256: SHA-256 of ``prior.safetensors``, None if the core comes without one.
        input: the input contract.
        citation: what to cite.
        licence: on what terms the weights can be used.
        origin: the authors' own file, if there is one.
        bundled: the weights are inside the package.
        simulated: trained on simulated recordings; said whenever the core is named to a user.
    """

    name: str
    summary: str
    repository: str
    revision: str | None
    weights_sha256: str | None
    content_hash: str | None
    input: InputContract
    citation: str
    licence: str
    prior_sha256: str | None = None
    origin: Origin | None = None
    bundled: bool = False
    simulated: bool = False


_LURZ_2021 = (
    "Lurz, K.-K., Bashiri, M., Willeke, K., Jagadish, A. K., Wang, E., Walker, E. Y., Cadena, S. A., "
    "Muhammad, T., Cobos, E., Tolias, A. S., Ecker, A. S., & Sinz, F. H. (2021). Generalization in "
    "data-driven models of primary visual cortex. International Conference on Learning Representations."
)

RELEASED = {
    core.name: core
    for core in (
        ReleasedCore(
            name="11-S",
            summary="the core of Lurz et al. 2021, trained on recordings of mouse V1",
            repository="mousev1/11-s",
            revision=None,
            weights_sha256="c2ccab3ffbbb3b33ba41150b761a26a52947e20e350fccbff0a8ecdf9bacf795",
            content_hash="cdc3b21cc652207ef19f431350fd05a6e376ed09a9a706a25354479179c073b6",
            input=InputContract(),
            citation=_LURZ_2021,
            licence="none stated by the authors",
            origin=Origin(
                url="https://raw.githubusercontent.com/sinzlab/nnsysident/"
                "a5c378cfaeafaa002dd9fb659a1e1632f4963672/nnsysident/models/lurz_model_core",
                sha256="02af3094811e063a0266c6fb10702f2a2882d6b29cf4f8f82380d4bb36bc303f",
                variable="MOUSEV1_11S_URL",
            ),
        ),
        ReleasedCore(
            name="sim-11S",
            summary="the same architecture, trained on SIMULATED recordings, not on neurons",
            repository="mousev1/sim-11s",
            revision=None,
            weights_sha256="29f35db16f3cf44fda00954f5f93e8ae3c7a9020ddb33e60f800fb7414b06086",
            content_hash="45a5ce6638c054276e145a51ec066b733d0d24e5aa7c3d3e92dba38161f961da",
            prior_sha256="a50f039aa55e693c3cc5bddb593b375f14a9d0783c769379ca5030a25f6198c2",
            input=InputContract(mean=113.0, std=60.0),
            citation=f"the mousev1 library; architecture: {_LURZ_2021}",
            licence="MIT",
            bundled=True,
            simulated=True,
        ),
    )
}


def find_released(content_hash: str) -> ReleasedCore | None:
    """The released core with these weights and this config, whatever it is called."""
    return next((core for core in RELEASED.values() if core.content_hash == content_hash), None)
