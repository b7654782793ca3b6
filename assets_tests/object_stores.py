"""A real S3-speaking server (moto's) on loopback, in a process of its own, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from assets_tests.processes import PATIENCE_SECONDS
from deblend_assets.settings import StorePath, store_path

BUCKET = "blends"
# It ends when its standard input does, and so with the tests, however they end.
_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("ready", *server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""


@dataclass
class ObjectStore:
    """A server with one bucket.

    Attributes:
        environment: what a client needs to find it.
    """

    environment: dict[str, str]
    _log: Path
    _read: int = 0

    @property
    def root(self) -> StorePath:
        return store_path(f"s3://{BUCKET}/runs/one")

    def client(self) -> Any:
        """A client that knows nothing of the package, as another process would be."""
        import boto3

        return boto3.client("s3")

    def objects(self, root: StorePath) -> dict[str, bytes]:
        """Every object below a path, by its name from there."""
        assert not isinstance(root, Path)
        bucket, _, prefix = root.path.partition("/")
        client = self.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix.rstrip("/") + "/")
        keys = sorted(entry["Key"] for page in pages for entry in page.get("Contents", []))
        return {
            key[len(prefix.rstrip("/")) + 1 :]: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys
        }

    def put(self, path: StorePath, data: bytes) -> None:
        """Put an object past the package."""
        assert not isinstance(path, Path)
        bucket, _, key = path.path.partition("/")
        self.client().put_object(Bucket=bucket, Key=key, Body=data)

    def requests(self) -> list[str]:
        """Method and path of the requests since the last call, without their bucket."""
        # The server writes the line of a request before it sends the answer's first byte.
        lines = self._log.read_text(errors="replace").splitlines()
        new, self._read = lines[self._read :], len(lines)
        # It may be coloured, by the kind of answer.
        plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in new]
        found = [re.search(r'"([A-Z]+) (/\S*) HTTP', line) for line in plain]
        return [f"{match[1]} {match[2].removeprefix(f'/{BUCKET}')}" for match in found if match]


@contextlib.contextmanager
def object_store(folder: Path, **options: str) -> Iterator[ObjectStore]:
    """Start the server and point this process at it.

    Args:
        folder: for its log.
        options: of its environment.
    """
    log = folder / "server.log"
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stack.enter_context(log.open("w")),
            env={**os.environ, **options},
            text=True,
        )
        stack.callback(process.wait, PATIENCE_SECONDS)
        stack.callback(process.kill)
        assert process.stdout is not None
        word, host, port = process.stdout.readline().split()
        assert word == "ready"
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "a-secret-never-shown",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with clients_of(environment):
            store = ObjectStore(environment, log)
            store.client().create_bucket(Bucket=BUCKET)
            store.requests()
            yield store


@contextlib.contextmanager
def clients_of(environment: dict[str, str]) -> Iterator[None]:
    """This process with an environment of its own, in which nothing but that says where the store is."""
    from s3fs import S3FileSystem

    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull}
    with mock.patch.dict(
        os.environ, {**kept, **nowhere, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, **environment}, clear=True
    ):
        # fsspec keeps a client for ever, with the environment it was made in.
        S3FileSystem.clear_instance_cache()
        try:
            yield
        finally:
            S3FileSystem.clear_instance_cache()
