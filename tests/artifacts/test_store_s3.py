"""The published store suite on S3."""

from __future__ import annotations

from typing import Any

import pytest

from flowcore.testing.stores import StoreConformance
from tests.services.s3 import Bucket

pytestmark = pytest.mark.s3


class TestS3Store(StoreConformance):
    @pytest.fixture(autouse=True)
    def reached(self, s3_bucket: Bucket) -> None:
        self.storage_options: Any = s3_bucket.storage_options

    @pytest.fixture
    def store_root(self, s3_bucket: Bucket) -> str:
        return s3_bucket.root
