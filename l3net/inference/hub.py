"""SavedModels of ours on the Hugging Face Hub: fetched into its cache, and pushed.

huggingface_hub is the extra `hub`; it is imported when it is needed. Its own settings hold: HF_HOME
(where the cache is), HF_HUB_OFFLINE=1 (nothing but the cache), HF_TOKEN or `hf auth login`.
"""

import os
import pathlib
import re
from types import ModuleType
from typing import NoReturn

import l3net
from l3net.errors import UserError, first_line, needs_extra

URI = "hf://"
# What a SavedModel of ours consists of; nothing else is fetched or pushed.
_FILES = ("saved_model.pb", "fingerprint.pb", "variables/*", "assets*/*", "README.md")
_CLIENT = {"library_name": "l3net", "library_version": l3net.__version__}


def local_folder(name: str | os.PathLike, revision: str | None = None) -> str | os.PathLike:
    """Returns the folder of a SavedModel: of a name on the Hub the one in the cache.

    Args:
        name: a folder that exists, "owner/name", or "hf://owner/name" and "hf://owner/name@revision"
            as huggingface_hub writes them. What is none of these is returned as it is.
        revision: a branch, tag or commit of the model on the Hub; None: "main".

    Raises:
        UserError: if huggingface_hub is missing, there is no such model or revision, it is gated,
            or it is not in the cache and the Hub cannot be reached; or a folder has a revision.
    """
    text = os.fspath(name)
    if pathlib.Path(text).is_dir():
        if revision is not None:
            raise UserError(
                f"revision {revision!r} of the folder {text}: only models on the Hub have one"
            )
        return name
    if text.startswith(URI) and revision is None:
        text, _, at = text.partition("@")
        revision = at or None
    on_hub = text.removeprefix(URI)
    if not text.startswith(URI) and not re.fullmatch(r"[\w.-]+/[\w.-]+", text):
        return name
    check_name(on_hub)
    return pathlib.Path(_fetch(on_hub, revision))


def check_name(name: str) -> None:
    """Raises UserError unless this can be the name of a model and huggingface_hub is there."""
    errors = _client().errors
    try:
        _client().utils.validate_repo_id(name)
        if name.count("/") != 1:
            raise UserError(f"{name!r} is no name on the Hub; it is owner/name")
    except errors.HFValidationError as error:
        raise UserError(
            f"{name!r} is no name on the Hub, owner/name: {first_line(error)}"
        ) from error


def push(folder: str | os.PathLike, name: str) -> str:
    """Uploads a SavedModel of ours, with its model card; returns the commit's address.

    The repository is made if need be, as public or private as its owner's settings say.

    Raises:
        UserError: if huggingface_hub is missing, the Hub cannot be reached or does not let us.
    """
    api = _client().HfApi(**_CLIENT)
    try:
        api.create_repo(name, exist_ok=True)
        done = api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=list(_FILES),
            delete_patterns=["variables/*"],  # those of another number of files
            commit_message="SavedModel of l3net.export",
        )
    except Exception as error:  # the client's HTTP library, and its errors, change with its version
        raise UserError(
            f"cannot push {folder} to {name}: {first_line(error)}; a token that may write comes "
            "from `hf auth login` or HF_TOKEN. The SavedModel is complete; only the push is missing"
        ) from error
    return str(done.commit_url)


def _fetch(name: str, revision: str | None) -> str:
    client = _client()
    try:
        return client.snapshot_download(
            name, revision=revision, allow_patterns=list(_FILES), **_CLIENT
        )
    except Exception as error:  # as above
        _explain(error, name, revision)


def _explain(error: Exception, name: str, revision: str | None) -> NoReturn:
    errors = _client().errors
    page = f"https://huggingface.co/{name}"
    if isinstance(error, errors.GatedRepoError):
        text = f"{name} is gated: agree to its terms on {page}, then `hf auth login`"
    elif isinstance(error, errors.RepositoryNotFoundError):
        text = (
            f"{name} is neither a folder nor a model on the Hub that you may read; check the name, "
            "and `hf auth login` if it is private"
        )
    elif isinstance(error, errors.RevisionNotFoundError):
        text = f"{name} has no revision {revision!r}; {page}/tree/main lists them"
    else:
        wanted = name if revision is None else f"{name} at {revision}"
        text = (
            f"{wanted} is no folder, not complete in the cache, and cannot be fetched from the Hub "
            f"({first_line(error)}); check the network and HF_HUB_OFFLINE"
        )
    raise UserError(text) from error


def _client() -> ModuleType:
    with needs_extra("hub", "the Hugging Face Hub"):
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    return huggingface_hub
