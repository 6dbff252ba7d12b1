"""Cores and fitted readouts shared on the Hub, each with its card, in one commit."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mousev1.core.network import Core
from mousev1.core.representation import FrozenCore
from mousev1.hub.cores import is_reachable, is_repo_id
from mousev1.hub.download import explain_push
from mousev1.hub.model_cards import core_card, readout_card
from mousev1.hub.model_files import save_model
from mousev1.hub.registry import find_released
from mousev1.storage.core_files import save_core

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from mousev1.metrics.score_table import ScoreTable
    from mousev1.model.response_model import ResponseModel

logger = logging.getLogger("mousev1")


def push_core(
    core: Core,
    repo_id: str,
    *,
    card: str | None = None,
    licence: str | None = None,
    private: bool | None = None,
    commit_message: str = "Upload a core with mousev1",
    revision: str | None = None,
    create_pr: bool = False,
) -> CommitInfo:
    """Share a core on the Hub; ``load_core(repo_id, revision=...)`` loads it.

    Args:
        core: the core.
        repo_id: ``owner/repo``; made if it is not there.
        card: text of ``README.md``; by default what can be read off the core.
        licence: a licence identifier of the Hub for the card, such as ``"mit"``.
        private: whether a repository made by this call is private; the account's default if None.
        commit_message: of the commit.
        revision: branch to commit to, made if it is not there; the main branch if None.
        create_pr: open a pull request instead of committing.

    Returns:
        The commit: ``oid`` is what to pass as ``revision``, ``pr_url`` the pull request if there is one.

    Raises:
        PermissionError: no token, or one that may not write there.
        ConnectionError: the Hub failed; ``TimeoutError`` if it did not answer.
    """
    _warn_of_licence(core)
    text = core_card(core, licence=licence) if card is None else card
    return _push(
        lambda folder: save_core(core, folder, card=text),
        repo_id,
        private,
        commit_message,
        revision,
        create_pr,
    )


def push_model(  # noqa: PLR0913
    model: ResponseModel,
    repo_id: str,
    *,
    scores: ScoreTable | None = None,
    dataset: str = "a recording of the authors",
    card: str | None = None,
    licence: str | None = None,
    include_core: bool | None = None,
    private: bool | None = None,
    commit_message: str = "Upload a fitted readout with mousev1",
    revision: str | None = None,
    create_pr: bool = False,
) -> CommitInfo:
    """Share a fitted readout on the Hub; ``load_model(repo_id, revision=...)`` loads it.

    Args:
        model: the fitted model.
        repo_id: ``owner/repo``; made if it is not there.
        scores: from ``model.score`` on held-out trials, for the card and its metadata.
        dataset: what it was scored on, in words, for the card.
        card: text of ``README.md``, instead of the automatic one.
        licence: a licence identifier of the Hub for the card, such as ``"cc-by-4.0"``.
        include_core: put the core's weights in too. By default only those of a core that others could
            not load by name or from the Hub.
        private: as for ``push_core``, like all that follow.
        commit_message: of the commit.
        revision: branch to commit to.
        create_pr: open a pull request instead of committing.

    Returns:
        The commit, as for ``push_core``.

    Raises:
        PermissionError: no token, or one that may not write there.
        ConnectionError: the Hub failed; ``TimeoutError`` if it did not answer.
    """
    source = model.core.source
    with_core = not is_reachable(source) if include_core is None else include_core
    if with_core:
        _warn_of_licence(model.core)
    text = card or readout_card(model, scores=scores, repo_id=repo_id, dataset=dataset, licence=licence)
    return _push(
        lambda folder: save_model(model, folder, include_core=with_core, card=text),
        repo_id,
        private,
        commit_message,
        revision,
        create_pr,
    )


def _warn_of_licence(core: FrozenCore) -> None:
    released = find_released(core.content_hash())
    if released is not None and released.licence != "MIT":
        logger.warning(
            "core '%s' goes into the repository with its weights, whose licence is: %s",
            released.name,
            released.licence,
        )


def _push(
    save: Callable[[Path], Path],
    repo_id: str,
    private: bool | None,
    commit_message: str,
    revision: str | None,
    create_pr: bool,
) -> CommitInfo:
    from huggingface_hub import HfApi

    if not is_repo_id(repo_id):
        raise ValueError(f"repo_id: expected 'owner/repo', got {repo_id!r}")
    with tempfile.TemporaryDirectory(prefix="mousev1-") as temporary:
        folder = save(Path(temporary) / "artifact")
        api = HfApi(library_name="mousev1")
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None and not create_pr:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
                # what an earlier version had and this one has not
                delete_patterns="*.safetensors",
            )
        except Exception as error:  # the client raises its transport's exceptions, which differ by version
            raise explain_push(error, repo_id) from error
