"""MNIST: its files, its download; and the digits that stand in for it."""

import gc
import gzip
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from commands import PYTHONPATH
from sample_sets import (
    SPLITS,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    Arrays,
    hashes,
    idx,
    images_of,
    labels_of,
    sample_set,
    write,
)

from pipeline import data
from pipeline.config import Data
from pipeline.data import mnist
from pipeline.data.splits import THE_ONLY
from pipeline.errors import DataError

REAL_MNIST = os.environ.get(data.DIR_VARIABLE, "")


# The IDX files


@pytest.mark.parametrize("named", ["{}", "{}.gz", ".idx3", ".idx3.gz"])
def test_idx_files_are_read_under_each_name_they_are_known_by(tmp_path: Path, small: Arrays, named: str) -> None:
    found = mnist.read_idx_folder(write(tmp_path / "set", small, named))
    for array, expected in zip(found, small.values(), strict=True):
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("missing", mnist.IDX_FILES)
def test_a_missing_file_is_named(tmp_path: Path, small: Arrays, missing: str) -> None:
    folder = write(tmp_path / "set", small)
    (folder / missing).unlink()
    for name in ("mnist", "auto"):  # a folder that was set is what is wanted: no quiet way round it
        with pytest.raises(DataError, match=missing) as caught:
            data.load(Data(name=name, dir=folder))
        assert caught.value.exit_code == 2
        assert str(folder) in caught.value.message


IMAGES = idx(sample_set(6, 4)[TRAIN_IMAGES])
OVERFLOWING = (0x803).to_bytes(4, "big") + (2**31).to_bytes(4, "big") * 2 + (4).to_bytes(4, "big")  # 2⁶⁴ bytes


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (IMAGES[:-1], "truncated: 4719 bytes, its header (6, 28, 28) says 4720"),
        (IMAGES[:10], "truncated"),
        (IMAGES[:3], "magic"),
        (b"", "magic"),
        (IMAGES + b"\0", "too long"),
        (OVERFLOWING, "truncated"),
        (gzip.compress(IMAGES, mtime=0)[:-1], "cannot be unpacked"),
        (gzip.compress(IMAGES, mtime=0)[:1000], "cannot be unpacked"),
        (gzip.compress(IMAGES, mtime=0)[:5], "cannot be unpacked"),
        (gzip.compress(IMAGES, mtime=0)[:500] + bytes(8) + gzip.compress(IMAGES)[508:], "cannot be unpacked"),
        (gzip.compress(IMAGES[:-1], mtime=0), "truncated"),
        (IMAGES[::-1], "magic 0x"),
        (idx(np.zeros(6, np.uint8)), "magic 0x00000801, not 0x00000803"),
        (b"<!DOCTYPE html><html>404</html>", "magic 0x3c21444f"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path: Path, small: Arrays, content: bytes, said: str) -> None:
    folder = write(tmp_path / "set", small)
    (folder / TRAIN_IMAGES).write_bytes(content)
    with pytest.raises(DataError) as caught:
        data.load(Data(dir=folder))
    assert str(folder / TRAIN_IMAGES) in caught.value.message
    assert said in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({TRAIN_IMAGES: np.zeros((6, 8, 8), np.uint8)}, "train images are 8×8, MNIST's are 28×28"),
        ({TEST_IMAGES: np.zeros((4, 28, 27), np.uint8)}, "t10k images are 28×27"),
        ({TRAIN_LABELS: np.zeros(5, np.uint8)}, "train has 6 images and 5 labels"),
        ({TEST_LABELS: np.zeros(5, np.uint8)}, "t10k has 4 images and 5 labels"),
        ({TEST_LABELS: np.array([0, 9, 10, 1], np.uint8)}, "t10k has the label 10"),
        ({}, "too few"),  # fewer than the validation split takes: nothing would be left to train on
        ({TEST_IMAGES: np.zeros((0, 28, 28), np.uint8), TEST_LABELS: np.zeros(0, np.uint8)}, "too few"),
    ],
)
def test_files_that_are_not_mnists_are_refused(tmp_path: Path, small: Arrays, changed: Arrays, said: str) -> None:
    folder = write(tmp_path / "set", small | changed)
    with pytest.raises(DataError) as caught:
        data.load(Data(dir=folder))
    assert str(folder) in caught.value.message
    assert said in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("given_by", ["data.dir", data.DIR_VARIABLE])
def test_mnist_is_read_from_its_folder_and_split(
    tmp_path: Path, like_mnist: Arrays, monkeypatch: pytest.MonkeyPatch, given_by: str
) -> None:
    folder = write(tmp_path / "set", like_mnist)
    if given_by == data.DIR_VARIABLE:
        monkeypatch.setenv(data.DIR_VARIABLE, str(folder))
    dataset = data.load(Data(dir=folder if given_by == "data.dir" else None))
    assert (dataset.name, dataset.origin, dataset.substitute) == ("mnist", "IDX files", "")
    assert [len(getattr(dataset, split)) for split in SPLITS] == [10, 5_000, 20]
    assert hashes(dataset.train) + hashes(dataset.validation) == hashes(
        data.Split({THE_ONLY: like_mnist[TRAIN_IMAGES]})
    )
    assert images_of(dataset.train).shape == (10, 28, 28, 1)
    assert labels_of(dataset.test).dtype == np.int64
    np.testing.assert_array_equal(images_of(dataset.test)[..., 0], like_mnist[TEST_IMAGES])
    np.testing.assert_array_equal(labels_of(dataset.test), like_mnist[TEST_LABELS])


@pytest.mark.skipif(not REAL_MNIST, reason=f"{data.DIR_VARIABLE} does not name a folder with MNIST")
def test_the_real_mnist_has_its_splits() -> None:
    folder = Path(REAL_MNIST)
    dataset = data.load(Data(name="mnist", dir=folder))
    assert dataset.record().samples.model_dump() == {"train": 55_000, "validation": 5_000, "test": 10_000}
    # The two are a rearrangement of the 60,000 training images: every index is in one of them, and in one only.
    images, *_ = mnist.read_idx_folder(folder)
    everything = data.Split({THE_ONLY: images})
    assert hashes(dataset.train) + hashes(dataset.validation) == hashes(everything)
    assert not hashes(dataset.train) & hashes(dataset.validation)
    assert not (hashes(dataset.train) | hashes(dataset.validation)) & hashes(dataset.test)


# What is not at hand, and the download


def test_auto_takes_the_digits_and_says_so_where_there_is_no_mnist(nothing_at_hand: Path) -> None:
    dataset = data.load(Data(name="auto"))
    assert dataset.name == "digits"
    assert "MNIST is unavailable" in dataset.substitute
    assert mnist.KERAS_URL in dataset.substitute
    assert dataset.record().substitute == dataset.substitute
    assert not nothing_at_hand.exists()


@pytest.mark.parametrize("download", [True, False])
def test_mnist_asked_for_by_name_is_not_replaced(nothing_at_hand: Path, download: bool) -> None:
    with pytest.raises(DataError, match="MNIST is unavailable") as caught:
        data.load(Data(name="mnist"), download=download)
    assert caught.value.exit_code == 2
    assert (mnist.KERAS_URL if download else str(nothing_at_hand)) in caught.value.message
    for remedy in ("data.dir", data.DIR_VARIABLE, "data.name=digits"):
        assert remedy in caught.value.hint


class Server(ThreadingHTTPServer):
    """Answers that wait stop waiting when `ended` is set."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.ended = threading.Event()


# Where a server hangs up or does not speak HTTP, http.client (Python 3.11 to 3.13) leaves the socket unclosed.
left_by_urllib = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

Answer = Callable[[BaseHTTPRequestHandler], object]
CONTENT = b"the forty bytes that stand in for MNIST."
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Return a function that starts a real HTTP server with one answer, and returns its address."""
    started: list[Server] = []
    threads = set(threading.enumerate())

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    answer(self)
                except OSError:
                    self.close_connection = True  # the client has gone, as it should

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = Server(("127.0.0.1", 0), Handler)
        started.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/mnist.npz"

    yield start
    for server in started:
        server.ended.set()
        server.shutdown()
        server.server_close()
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
    gc.collect()  # here, not in a later test (left_by_urllib)


def respond(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(content)


def chunked_and_cut(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + CONTENT)


def test_a_download_lands_in_its_place(tmp_path: Path, serve: Callable[[Answer], str]) -> None:
    target = tmp_path / "new" / "folder" / "mnist.npz"
    mnist.fetch_file(serve(lambda handler: respond(handler, CONTENT)), SHA256, target, 10)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


DOWNLOADS = """
import sys
from pathlib import Path
from pipeline.data import mnist
for number in range(8):
    mnist.fetch_file(sys.argv[1], sys.argv[2], Path(sys.argv[3]) / str(number) / "mnist.npz", 30)
"""


def test_two_first_downloads_that_finish_together_both_succeed(tmp_path: Path, serve: Callable[[Answer], str]) -> None:
    """With one name for both partial files, one process renamed the other's away, which then took the digits."""
    both = threading.Barrier(2, timeout=60)
    content = bytes(11 << 20)  # as large as MNIST: it takes a while to write

    def answer(handler: BaseHTTPRequestHandler) -> None:
        both.wait()
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(content)

    command = [sys.executable, "-c", DOWNLOADS, serve(answer), hashlib.sha256(content).hexdigest(), str(tmp_path)]
    running = [
        subprocess.Popen(command, env=os.environ | {"PYTHONPATH": PYTHONPATH}, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [(process.communicate(timeout=120)[1], process.returncode) for process in running] == [("", 0), ("", 0)]
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"mnist.npz"}


@left_by_urllib
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda handler: respond(handler, CONTENT[::-1]), "wrong SHA-256"),
        (lambda handler: respond(handler, CONTENT[:-1]), ""),
        (lambda handler: handler.send_error(404), "Not Found"),
        (lambda handler: handler.send_error(503), ""),
        (lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n"), ""),
        (lambda handler: None, ""),
        (chunked_and_cut, ""),
        (lambda handler: handler.server.ended.wait(5), "timed out|not finished after 0.3 s"),
    ],
    ids=["wrong", "cut", "404", "503", "not-http", "hang-up", "chunked-cut", "silence"],
)
def test_a_download_that_fails_leaves_nothing_and_says_why(
    tmp_path: Path, serve: Callable[[Answer], str], answer: Answer, said: str
) -> None:
    target = tmp_path / "cache" / "mnist.npz"
    url = serve(answer)
    with pytest.raises(DataError, match=f"download of {url} .*({said})"):
        mnist.fetch_file(url, SHA256, target, 0.3)
    assert not target.parent.exists() or not list(target.parent.iterdir())


@left_by_urllib
@pytest.mark.parametrize(
    ("at_once", "slowly"),
    [(b"", b"HTTP/1.0 200 OK\r\nServer: a slow one\r\n\r\n"), (b"HTTP/1.0 200 OK\r\n\r\n", CONTENT)],
    ids=["header", "content"],
)
def test_a_download_ends_at_its_limit_though_the_server_goes_on(
    tmp_path: Path, serve: Callable[[Answer], str], at_once: bytes, slowly: bytes
) -> None:
    all_sent = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(at_once)
        for byte in slowly:  # each in time for a limit on a single read, for 2 s
            handler.wfile.write(bytes([byte]))
            if handler.server.ended.wait(0.05):
                return
        all_sent.set()

    with pytest.raises(DataError, match=r"not finished after 0\.3 s"):
        mnist.fetch_file(serve(trickle), SHA256, tmp_path / "mnist.npz", 0.3)
    assert not all_sent.is_set()
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_is_an_error_that_names_it(
    tmp_path: Path, serve: Callable[[Answer], str]
) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "mnist.npz"
    with pytest.raises(DataError, match=str(target.parent)):
        mnist.fetch_file(serve(lambda handler: respond(handler, CONTENT)), SHA256, target, 10)


def npz(file: Path, arrays: Arrays, **other: np.ndarray) -> bytes:
    """Write MNIST as Keras downloads it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    keys = ("x_train", "y_train", "x_test", "y_test")
    np.savez(file, **(dict(zip(keys, arrays.values(), strict=True)) | other))
    return file.read_bytes()


def test_the_keras_copy_is_read_where_it_is_at_hand(nothing_at_hand: Path, like_mnist: Arrays, tmp_path: Path) -> None:
    assert data.identify(Data()) == "digits"
    npz(nothing_at_hand, like_mnist)
    dataset = data.load(Data())
    assert (dataset.name, dataset.origin) == ("mnist", "Keras download")
    assert dataset.record().sha256 == data.load(Data(dir=write(tmp_path / "set", like_mnist))).record().sha256
    assert data.identify(Data()).startswith("mnist ")


def halved(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def one_bit_changed(raw: bytes) -> bytes:
    middle = len(raw) // 2
    return raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]


def emptied(raw: bytes) -> bytes:
    return b""


def another_file(raw: bytes) -> bytes:
    return b"<html>"


@pytest.mark.parametrize("damage", [halved, one_bit_changed, emptied, another_file])
def test_a_damaged_keras_copy_is_named(nothing_at_hand: Path, small: Arrays, damage: Callable[[bytes], bytes]) -> None:
    nothing_at_hand.parent.mkdir(parents=True)
    nothing_at_hand.write_bytes(damage(npz(nothing_at_hand, small)))
    with pytest.raises(DataError, match="is not the Keras copy of MNIST") as caught:
        data.load(Data())
    assert str(nothing_at_hand) in caught.value.message


@pytest.mark.parametrize("other", [{"x_train": np.zeros((5_010, 8, 8), np.uint8)}, {"y_test": np.zeros(3, np.uint8)}])
def test_a_keras_copy_with_other_content_is_refused(nothing_at_hand: Path, like_mnist: Arrays, other: Arrays) -> None:
    npz(nothing_at_hand, like_mnist, **other)
    with pytest.raises(DataError, match=str(nothing_at_hand)):
        data.load(Data())


# The digits


def test_the_digits_are_disjoint_splits_of_enlarged_images() -> None:
    dataset = data.load(Data(name="digits"))
    splits = [getattr(dataset, split) for split in SPLITS]
    assert [len(split) for split in splits] == [1257, 180, 360]
    for split in splits:
        images = images_of(split)
        assert images.dtype == np.uint8
        assert images.shape == (len(split), 28, 28, 1)
        assert (images.min(), images.max()) == (0, 255)
        assert set(labels_of(split).tolist()) == set(range(10))
    # All 1,797 images differ from each other: none is in two splits.
    assert len(hashes(splits[0]) | hashes(splits[1]) | hashes(splits[2])) == 1797
    assert (dataset.class_names, dataset.substitute) == ({THE_ONLY: tuple("0123456789")}, "")


def test_the_digits_are_the_same_at_every_load() -> None:
    assert data.load(Data(name="digits")).record() == data.load(Data(name="digits")).record()
