"""Fixtures for S3: a server that ends with the session, a fresh bucket for each test, and a proxy that fails on demand."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.services.fault_proxy import FaultProxy

KEY, SECRET = "testing-key", "testing-secret"


@dataclass
class Bucket:
    """A bucket, how to reach it, and what lies in it, asked of the server itself."""

    name: str
    endpoint_url: str
    storage_options: dict[str, Any]

    @property
    def root(self) -> str:
        return f"s3://{self.name}/runs"

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.endpoint_url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        )

    def all_keys(self) -> list[str]:
        """All keys of the bucket, sorted."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))

    def unfinished_uploads(self) -> list[str]:
        """The keys of multipart uploads that were neither completed nor aborted."""
        return [upload["Key"] for upload in self.client().list_multipart_uploads(Bucket=self.name).get("Uploads", [])]


@contextlib.contextmanager
def s3_server_running() -> Iterator[str]:
    """The endpoint of a moto server in a process of its own, so that it does not share this interpreter's lock."""
    here = os.path.dirname(os.path.abspath(__file__))
    server = subprocess.Popen(
        [sys.executable, os.path.join(here, "s3_server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        server.wait()  # what it started serves on
        port = server.stdout.readline().strip()
        assert port, "the S3 server did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stdin.close()
        server.stdout.read()  # its end is the server's
        server.stdout.close()


def new_bucket(endpoint_url: str) -> Bucket:
    """A fresh bucket on the server at ``endpoint_url``."""
    options = {"key": KEY, "secret": SECRET, "endpoint_url": endpoint_url}
    bucket = Bucket(f"flowcore-{os.urandom(4).hex()}", endpoint_url, options)
    client = bucket.client()
    client.create_bucket(Bucket=bucket.name)
    client.close()
    return bucket


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    with s3_server_running() as endpoint_url:
        yield endpoint_url


@pytest.fixture
def s3_bucket(s3_server: str) -> Bucket:
    return new_bucket(s3_server)


@pytest.fixture
def fault_proxy(s3_server: str) -> Iterator[FaultProxy]:
    """A proxy in front of the server; ``faulty_bucket`` is reached through it."""
    with FaultProxy(s3_server) as proxy:
        yield proxy


@pytest.fixture
def faulty_bucket(s3_server: str, fault_proxy: FaultProxy) -> Bucket:
    bucket = new_bucket(s3_server)
    # The client's own retries are kept few, so that what it gives up is seen soon.
    few = {"config_kwargs": {"retries": {"max_attempts": 1}}}
    bucket.storage_options = {**bucket.storage_options, **few, "endpoint_url": fault_proxy.endpoint_url}
    return bucket
