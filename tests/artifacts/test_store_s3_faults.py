"""What an unreliable S3 does to a store, through a proxy that fails at chosen requests: nothing torn is kept or accepted."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcore.artifacts.store import ArtifactStore, Execution
from flowcore.artifacts.transfers import PART_BYTES
from flowcore.artifacts.types import ArtifactRef
from flowcore.errors import ArtifactError, StorageError
from tests.services.fault_proxy import FaultProxy
from tests.services.s3 import Bucket

pytestmark = pytest.mark.s3

SMALL = b"weights"
LARGE = os.urandom(PART_BYTES) + b"and a second part"
ALWAYS = 1_000

PUT_OBJECT = ("PUT ", "/model")
CREATE, PART, COMPLETE, ABORT = ("POST ", "?uploads"), ("PUT ", "partNumber="), ("POST ", "?uploadId="), ("DELETE ", "uploadId=")
GET = ("GET ", "/model")


@pytest.fixture
def store(faulty_bucket: Bucket, tmp_path: Path) -> Iterator[ArtifactStore]:
    with ArtifactStore(faulty_bucket.root, faulty_bucket.storage_options, cache_dir=str(tmp_path / "cache")) as store:
        yield store


@pytest.fixture
def execution(store: ArtifactStore) -> Execution:
    return store.begin(store.join("run", "task", "1"))


def sealed(execution: Execution, data: bytes) -> ArtifactRef:
    output = execution.output("model", "system.Model")
    Path(output.path).write_bytes(data)
    return execution.seal_artifact(output)


@pytest.mark.parametrize("action", ["503", "reset", "lose"])
@pytest.mark.parametrize(
    ("data", "request_"), [(SMALL, PUT_OBJECT), (LARGE, CREATE), (LARGE, PART), (LARGE, COMPLETE)],
    ids=["put-object", "create", "part", "complete"],
)  # fmt: skip
def test_an_upload_survives_a_failed_request(
    store: ArtifactStore,
    execution: Execution,
    faulty_bucket: Bucket,
    fault_proxy: FaultProxy,
    action: str,
    data: bytes,
    request_: tuple[str, ...],
) -> None:
    fault_proxy.fail(action, *request_)
    ref = sealed(execution, data)
    assert fault_proxy.faults[0].times == 0
    assert (ref.size_bytes, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert Path(store.fetch(ref)).read_bytes() == data
    assert faulty_bucket.unfinished_uploads() == []


@pytest.mark.parametrize("request_", [CREATE, PART, COMPLETE], ids=["create", "part", "complete"])
def test_an_upload_that_keeps_failing_is_a_storage_error_and_leaves_nothing(
    execution: Execution, faulty_bucket: Bucket, fault_proxy: FaultProxy, request_: tuple[str, ...]
) -> None:
    fault_proxy.fail("503", *request_, times=ALWAYS)
    with pytest.raises(StorageError, match=r"'s3://flowcore-.*/model' cannot be written: .*after 4 tries.*try later"):
        sealed(execution, LARGE)
    assert faulty_bucket.unfinished_uploads() == []
    assert faulty_bucket.all_keys() == []


def test_an_upload_that_cannot_be_aborted_is_named(execution: Execution, fault_proxy: FaultProxy) -> None:
    fault_proxy.fail("503", *PART, times=ALWAYS)
    fault_proxy.fail("503", *ABORT, times=ALWAYS)
    with pytest.raises(StorageError, match=r"upload .* could not be aborted .*; abort it in 'flowcore-.*/model' by hand"):
        sealed(execution, LARGE)


def test_a_file_that_changes_while_it_is_sent_is_never_completed(
    execution: Execution, faulty_bucket: Bucket, fault_proxy: FaultProxy
) -> None:
    output = execution.output("model", "system.Model")
    Path(output.path).write_bytes(LARGE)

    def write_more(request: str) -> None:
        if "partNumber=" in request:
            with open(output.path, "ab") as file:
                file.write(b"more")

    fault_proxy.watch = write_more
    with pytest.raises(ArtifactError, match=r"'model'.*changed while it was read"):
        execution.seal_artifact(output)
    assert faulty_bucket.unfinished_uploads() == []
    assert faulty_bucket.all_keys() == []


def test_an_interrupted_upload_is_aborted(execution: Execution, faulty_bucket: Bucket, fault_proxy: FaultProxy) -> None:
    output = execution.output("model", "system.Model")
    Path(output.path).write_bytes(LARGE)
    main, pressed = threading.main_thread().ident, threading.Event()
    assert main is not None

    def interrupt(request: str) -> None:
        if "partNumber=" in request and not pressed.is_set():
            pressed.set()
            signal.pthread_kill(main, signal.SIGINT)

    fault_proxy.watch = interrupt
    # Where the tests run in a shell's background, interrupts are ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            execution.seal_artifact(output)
    finally:
        signal.signal(signal.SIGINT, before)
    assert faulty_bucket.unfinished_uploads() == []
    assert faulty_bucket.all_keys() == []


def test_an_outcome_that_cannot_be_written_is_no_seal(
    store: ArtifactStore, execution: Execution, faulty_bucket: Bucket, fault_proxy: FaultProxy
) -> None:
    sealed(execution, SMALL)
    fault_proxy.fail("503", "PUT ", "/outcome.json", times=ALWAYS)
    with pytest.raises(StorageError, match=r"outcome.json' cannot be written: .*after 4 tries"):
        execution.seal({"status": "SUCCEEDED"})
    assert store.outcomes(store.join("run", "task", "1")) == []
    execution.discard()
    assert faulty_bucket.all_keys() == []


@pytest.mark.parametrize("action", ["503", "reset", "truncate", "short"])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_fetch_survives_a_failed_request(
    store: ArtifactStore, execution: Execution, fault_proxy: FaultProxy, action: str, data: bytes
) -> None:
    ref = sealed(execution, data)
    fault_proxy.fail(action, *GET)
    assert Path(store.fetch(ref)).read_bytes() == data
    assert fault_proxy.faults[0].times == 0


@pytest.mark.parametrize("action", ["503", "short"])
def test_a_fetch_that_keeps_failing_is_a_storage_error(
    store: ArtifactStore, execution: Execution, fault_proxy: FaultProxy, tmp_path: Path, action: str
) -> None:
    ref = sealed(execution, SMALL)
    fault_proxy.fail(action, *GET, times=ALWAYS)
    with pytest.raises(StorageError, match=r"'s3://flowcore-.*/model' cannot be read: .*after 4 tries.*try later"):
        store.fetch(ref)
    assert not [file for file in (tmp_path / "cache").glob("[!.]*/**/*") if file.is_file()]


def test_a_bit_that_flips_on_the_way_is_not_accepted(store: ArtifactStore, execution: Execution, fault_proxy: FaultProxy) -> None:
    ref = sealed(execution, LARGE)
    fault_proxy.fail("flip", *GET)
    flipped = hashlib.sha256(LARGE[:-1] + bytes([LARGE[-1] ^ 1])).hexdigest()
    with pytest.raises(ArtifactError, match=f"'model' has changed: .*found .*{flipped}, recorded .*{ref.sha256}"):
        store.fetch(ref)
    assert Path(store.fetch(ref)).read_bytes() == LARGE


def test_a_listing_survives_failed_requests(store: ArtifactStore, execution: Execution, fault_proxy: FaultProxy) -> None:
    execution.seal({"status": "SUCCEEDED"})
    for action in ("503", "reset", "truncate"):
        fault_proxy.fail(action, "GET ", "list-type=2")
    assert [outcome for _, outcome in store.outcomes(store.join("run", "task", "1"))] == [{"status": "SUCCEEDED"}]
    assert [fault.times for fault in fault_proxy.faults] == [0, 0, 0]


def test_memory_stays_bounded_while_a_large_file_is_sent(s3_bucket: Bucket) -> None:
    with ArtifactStore(s3_bucket.root, s3_bucket.storage_options) as store:
        execution = store.begin(store.join("run", "task", "1"))
        output = execution.output("model", "system.Model")
        with open(output.path, "wb") as file:
            file.truncate(24 * PART_BYTES)
        tracemalloc.start()
        try:
            execution.seal_artifact(output)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    # Four parts are under way, and the driver may copy each.
    assert peak_bytes < 10 * PART_BYTES
