"""Whole objects of an object store, through fsspec: what `stores.files` does where the storage is a URL.

An object is put, replaced or deleted as a whole; a reader finds the old content, the new or none. Renaming is missing,
and so are locks that a killed process frees.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deblend_assets.errors import DeblendError, StorageError

if TYPE_CHECKING:  # of an optional extra
    from upath import UPath

_WORDS = 200


@contextlib.contextmanager
def _refusals(path: UPath) -> Iterator[None]:
    """Turn all errors of the store, its client and the network into one line, but for FileNotFoundError."""
    try:
        yield
    except DeblendError:
        raise
    except FileNotFoundError as error:
        if _code(error) == "NoSuchBucket":
            raise _no_bucket(path) from error
        raise
    except PermissionError as error:
        raise StorageError(
            f"the object store denies access ({_said(error)})",
            where=str(path),
            remedy="give credentials that may get, put, delete and list below DEBLEND_STORAGE, in the store's own "
            "variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE)",
        ) from error
    # Every client library has its own errors, most of which are no OSError.
    except Exception as error:
        raise StorageError(
            f"the object store cannot be used ({type(error).__name__}: {_said(error)})",
            where=str(path),
            remedy="check the store's own variables (AWS_ENDPOINT_URL, AWS_REGION, credentials) and the network, then "
            "run the same command again",
        ) from error


def _code(error: BaseException) -> str | None:
    """The store's error code, where its client passes it on."""
    response = getattr(error.__cause__, "response", None)
    return response.get("Error", {}).get("Code") if isinstance(response, dict) else None


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:_WORDS]


def _no_bucket(path: UPath) -> StorageError:
    return StorageError(
        "there is no such bucket", where=str(path), remedy="create the bucket, or correct its name in DEBLEND_STORAGE"
    )


def get(path: UPath) -> bytes:
    """An object's content; FileNotFoundError where there is none, StorageError where the store refuses."""
    with _refusals(path):
        content: bytes = path.fs.cat_file(path.path)
    return content


def put(path: UPath, data: bytes) -> None:
    """Create or replace an object; StorageError where the store refuses."""
    with _refusals(path):
        try:
            path.fs.pipe_file(path.path, data)
        except FileNotFoundError as error:
            raise _no_bucket(path) from error


def delete(path: UPath) -> None:
    """Delete an object, if it is there; StorageError where the store refuses."""
    with _refusals(path), contextlib.suppress(FileNotFoundError):
        path.fs.rm_file(path.path)


def is_there(path: UPath) -> bool:
    """Whether there is such an object; StorageError where the store refuses."""
    with _refusals(path), contextlib.suppress(FileNotFoundError):
        there: bool = path.fs.info(path.path)["type"] == "file"
        return there
    return False


def matching(folder: UPath, pattern: str) -> list[UPath]:
    """The objects below a prefix that match a glob pattern: a listing for every prefix that a `*` stands for."""
    with _refusals(folder):
        return list(folder.glob(pattern))


def sizes(folder: UPath) -> dict[str, int]:
    """Length of every object directly below a prefix [byte], by name; one listing."""
    with _refusals(folder):
        entries = folder.fs.ls(folder.path, detail=True)
    return {entry["name"].rpartition("/")[2]: int(entry["size"]) for entry in entries if entry["type"] == "file"}


def replace_below(folder: UPath, part: Path) -> None:
    """Replace the objects below a prefix by the files of a local folder; meanwhile nothing may vouch for them."""
    with _refusals(folder), contextlib.suppress(FileNotFoundError):
        folder.fs.rm(folder.path, recursive=True)
    for file in sorted(part.rglob("*")):
        if file.is_file():
            put(folder / file.relative_to(part).as_posix(), file.read_bytes())
