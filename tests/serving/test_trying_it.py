"""The page to try a model on, in a real browser with a camera and microphone of its own, on the real server."""

import io
import json
import re
import urllib.request
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import browsing
import made_bundle
import made_bundle_of_types
import numpy as np
import pytest
from browsing import DESKTOP, PHONE
from commands import ROOT
from PIL import Image
from servers import serving

from pipeline.deployment import bundle as bundles
from pipeline.tensors import Array

pytestmark = pytest.mark.browser
SCREENSHOTS = ROOT / "build/screenshots"
CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream=fps=60")
THREE = (
    (0.35, 0.25),
    (0.5, 0.2),
    (0.62, 0.3),
    (0.58, 0.45),
    (0.45, 0.5),
    (0.6, 0.55),
    (0.65, 0.7),
    (0.5, 0.8),
    (0.33, 0.74),
)
"""A digit to draw: corners of the stroke, as shares of the paper's width and height."""


class Sent(NamedTuple):
    """What the page asked a model."""

    model: str
    inputs: dict[str, Array]


def sent(request: Any) -> Sent:
    """Read a request to infer as the protocol has it."""
    body = request.post_data_buffer
    size = int(request.headers["inference-header-content-length"])
    inputs, at = {}, size
    for one in json.loads(body[:size])["inputs"]:
        count = one["parameters"]["binary_data_size"]
        dtype = {"UINT8": np.uint8, "FP32": np.float32}[one["datatype"]]
        inputs[one["name"]] = np.frombuffer(body[at : at + count], dtype).reshape(one["shape"])
        at += count
    return Sent(request.url.split("/")[-2], inputs)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium that shows a moving picture for a camera and beeps into its microphone."""
    with browsing.chromium(*CAMERA) as one:
        yield one


@pytest.fixture(scope="module")
def address(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the digits are served."""
    with serving(bundle, tmp_path_factory.mktemp("server") / "log") as server:
        yield f"http://{server.http_url}"


Opened = Callable[..., Any]


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """Return a function that opens a page; what it logs, or asks of anyone but its server, fails the test.

    The tab's `asked` are its requests to infer.
    """
    contexts, wrong = [], []

    def open_page(address: str, size: dict[str, int] = DESKTOP, scheme: str = "light", refused: bool = False) -> Any:
        context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        tab = context.new_page()
        tab.asked = []

        def seen(request: Any) -> None:
            if request.url.endswith("/infer"):
                tab.asked.append(request)
            if not request.url.startswith((address, "data:", "blob:")):
                wrong.append(request.url)

        tab.on("request", seen)
        tab.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        if not refused:  # a browser logs every refusal
            tab.on("console", lambda message: wrong.append(f"console: {message.text}"))
        tab.goto(address)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def said(tab: Any, lane: int = 0) -> str:
    """Wait for an answer that has a probability; return it."""
    found = tab.locator(".said").nth(lane)
    found.locator("span", has_text="%").wait_for()
    return str(found.locator("strong").inner_text())


def shown(tab: Any) -> list[float]:
    """Return the shares that the bars of the first lane show."""
    shares = tab.locator(".lane").first.locator(".bars li > :last-child").all_inner_texts()
    return [float(one.removesuffix(" %")) / 100 for one in shares]


def draw(tab: Any, corners: tuple[tuple[float, float], ...] = THREE) -> None:
    """Draw with the mouse."""
    box = tab.locator(".paper").bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    tab.mouse.move(*places[0])
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*place, steps=3)
    tab.mouse.up()


def settled(tab: Any) -> None:
    """Wait until no request has gone out for a while."""
    before = -1
    while before != len(tab.asked):
        before = len(tab.asked)
        tab.wait_for_timeout(300)


def from_model(bundle: Path, asked: Sent) -> Array:
    """Return what the recommended runner says to the very numbers that the page sent."""
    found = bundles.opened(bundle)
    with found.runner(found.record.runners[0]).open() as session:
        (answer,) = session.run(asked.inputs).values()
        return answer[0].copy()


def image(mode: str = "RGB") -> tuple[bytes, Image.Image]:
    """Return a picture that is not square, as a PNG file and as pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (45, 70, 3), np.uint8)
    pixels[10:40, 20:60] = 255 - pixels[10:40, 20:60] // 4
    file, picture = io.BytesIO(), Image.fromarray(pixels).convert(mode)
    picture.save(file, "PNG")
    return file.getvalue(), picture


def test_a_drawing_is_answered_with_what_the_model_says_of_it(opened: Opened, address: str, bundle: Path) -> None:
    tab = opened(address)
    draw(tab)
    answer = said(tab)
    settled(tab)
    last = sent(tab.asked[-1])
    assert last.inputs["image"].shape == (1, 28, 28, 1)
    expected = from_model(bundle, last)
    assert answer == str(expected.argmax())
    assert shown(tab) == pytest.approx(expected.tolist(), abs=0.0006)
    assert re.fullmatch(r"Answer: \d, [\d.]+ %", tab.locator("#spoken").text_content())
    for name in ("round", "server"):
        assert re.fullmatch(r"[\d.]+ ms", tab.locator(f"[data-figure={name}]").inner_text())
    tab.get_by_role("button", name="Clear").click()
    tab.get_by_label("Swap black and white").check()
    draw(tab)
    settled(tab)
    assert np.array_equal(255 - last.inputs["image"], sent(tab.asked[-1]).inputs["image"])


def test_the_keyboard_draws(opened: Opened, address: str) -> None:
    tab = opened(address)
    tab.locator(".paper").focus()
    for key in ("ArrowUp", "Shift+ArrowUp", "Space", *["ArrowDown"] * 9, "Space", "ArrowRight"):
        tab.keyboard.press(key)
    said(tab)
    settled(tab)
    (pixels,) = sent(tab.asked[-1]).inputs["image"][..., 0]
    inked = np.argwhere(pixels > 127)
    assert np.ptp(inked[:, 0]) > np.ptp(inked[:, 1]), "the stroke goes down"
    tab.keyboard.press("Delete")
    assert tab.evaluate(
        "document.querySelector('.paper').getContext('2d').getImageData(0, 0, 280, 280).data"
        ".every((value, at) => value === (at % 4 === 3 ? 255 : 0))"
    )


def drop(tab: Any, file: bytes) -> None:
    """Drop a PNG file on the paper."""
    tab.locator(".paper").evaluate(
        """(paper, bytes) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "picture.png", {type: "image/png"}));
            paper.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        list(file),
    )


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "chosen"])
def test_an_image_reaches_the_model_as_pillow_makes_it(
    opened: Opened, address: str, bundle: Path, dropped: bool
) -> None:
    tab, (file, picture) = opened(address), image()
    if dropped:
        drop(tab, file)
    else:
        tab.get_by_text("Image", exact=True).click()
        tab.locator("input.image").set_input_files({"name": "picture.png", "mimeType": "image/png", "buffer": file})
    answer = said(tab)
    last = sent(tab.asked[-1])
    expected = np.asarray(picture.convert("L").resize((28, 28), Image.Resampling.BILINEAR), np.int16)
    assert np.abs(last.inputs["image"][0, ..., 0] - expected).max() <= 1
    assert answer == str(from_model(bundle, last).argmax())


def live(tab: Any, frames: int) -> None:
    """Wait for so many frames; each was sent once, and the figures say how many come in a second."""
    before = len(tab.asked)
    while len(tab.asked) < before + frames:
        tab.wait_for_timeout(100)
    tab.locator("[data-figure=frames]", has_text=re.compile(r"\d")).wait_for()
    assert re.fullmatch(r"\d+ × \d+, [\d.]+ new frames a second", tab.locator(".rate").inner_text())
    pixels = [sent(one).inputs["image"].tobytes() for one in tab.asked[before:]]
    assert len(set(pixels)) > 0.8 * len(pixels), "frames differ"


def test_the_camera_is_answered_frame_by_frame(opened: Opened, address: str) -> None:
    tab = opened(address)
    tab.get_by_text("Camera", exact=True).click()
    tab.get_by_role("button", name="Start the camera").click()
    live(tab, 60)
    said(tab)
    tab.get_by_role("button", name="Stop the camera").click()
    settled(tab)


VIDEO = """async input => {
    const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
    [canvas.width, canvas.height] = [160, 120];
    const recorder = new MediaRecorder(canvas.captureStream(), {mimeType: "video/webm"}), parts = [];
    recorder.ondataavailable = event => parts.push(event.data);
    const ended = new Promise(done => { recorder.onstop = done; });
    recorder.start();
    for (let frame = 0; frame < 40; frame++) {
        pen.fillStyle = "#000"; pen.fillRect(0, 0, 160, 120);
        pen.fillStyle = "#fff"; pen.fillRect(20 + 2 * frame, 20, 30, 80);
        await new Promise(done => setTimeout(done, 25));
    }
    recorder.stop();
    await ended;
    const data = new DataTransfer();
    data.items.add(new File(parts, "moving.webm", {type: "video/webm"}));
    input.files = data.files;
    input.dispatchEvent(new Event("change"));
}"""


def test_a_video_file_is_answered_frame_by_frame(opened: Opened, address: str) -> None:
    tab = opened(address)
    tab.get_by_text("Video", exact=True).click()
    tab.locator("input.video").evaluate(VIDEO)
    live(tab, 20)
    said(tab)


def test_the_original_answers_side_by_side(opened: Opened, address: str, bundle: Path) -> None:
    tab, record = opened(address), bundles.opened(bundle).record
    draw(tab)
    said(tab)
    tab.get_by_label("Side by side").check()
    tab.locator(".times li").nth(1).wait_for(timeout=60_000)
    original = record.runners[-1]
    assert tab.locator(".lane select").nth(1).input_value() == original.name
    assert said(tab, 0) == said(tab, 1)
    assert "times as fast" in tab.locator("#ratio").inner_text()
    turns = [sent(one).model for one in tab.asked[-20:]]
    assert turns.count(original.name) == turns.count(record.name), "fair turns"
    tab.get_by_role("button", name="Time both").click()
    tab.locator("#raced", has_text="Medians").wait_for()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=SCREENSHOTS / "serve.png")
    emulated = next(one for one in record.runners if one.runner.emulated)
    tab.locator(".lane select").nth(1).select_option(emulated.name)
    tab.locator("#ratio", has_text="means nothing").wait_for()
    assert "Emulated" in tab.locator(".verdict").nth(1).inner_text()
    assert browsing.serious(tab) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_and_a_screen_reader_find_their_way(opened: Opened, address: str, scheme: str) -> None:
    tab = opened(address, PHONE, scheme)
    tab.locator(".paper").wait_for()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the answer"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "answers"
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    for mode in ("Image", "Camera", "Video", "Draw"):
        tab.get_by_text(mode, exact=True).click()
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "it scrolls sideways"
    draw(tab)
    said(tab)
    assert browsing.serious(tab) == []


@pytest.fixture(scope="module")
def numbers(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a model is served that takes a vector, a table and a waveform; a token is needed."""
    folder = tmp_path_factory.mktemp("numbers")
    made_bundle.of_numbers(bundle, folder / "bundle")
    (folder / "token").write_text(TOKEN)
    with serving(folder / "bundle", folder / "log", f"serve.token_file={folder / 'token'}") as server:
        yield f"http://{server.http_url}"


TOKEN = "a secret of more than sixteen signs".replace(" ", "-")


def enter(tab: Any, token: str = TOKEN) -> None:
    """Give the server's token."""
    tab.get_by_label("Token").fill(token)
    tab.get_by_role("button", name="Use it").click()


def sound(seconds: float) -> bytes:
    """Return a WAV file at half the loudness that it may have."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(16000)
        writer.writeframes(np.full(int(2 * 16000 * seconds), 2**14, "<i2").tobytes())
    return file.getvalue()


def test_a_model_of_numbers_gets_a_form(opened: Opened, numbers: str) -> None:
    tab = opened(numbers, refused=True)
    enter(tab, "another-that-is-not-it")
    tab.locator("#trouble", has_text="token").wait_for()
    enter(tab)
    colour, table, heard = (tab.locator("#inputs .card").nth(place) for place in range(3))
    for place, value in enumerate(("0.5", "2", "-1")):
        colour.locator("input[type=number]").nth(place).fill(value)
    table.locator("textarea").fill(
        "\n".join(",".join(str(8 * row + column) for column in range(8)) for row in range(8))
    )
    array = io.BytesIO()
    np.save(array, np.full((1, 50), -0.25, np.float32))
    heard.locator("input[type=file]").set_input_files(
        {"name": "sound.npy", "mimeType": "application/octet-stream", "buffer": array.getvalue()}
    )
    assert said(tab) == "green"
    powers = np.exp([0.5, 2, -1])
    assert shown(tab) == pytest.approx((powers / powers.sum()).tolist(), abs=0.0006)
    assert tab.locator(".outputs canvas").get_attribute("aria-label") == "64 numbers from 0 to 126"
    loudness = tab.locator(".outputs > div").nth(2)
    assert "0.25" in loudness.inner_text()
    heard.locator("input[type=file]").set_input_files(
        {"name": "sound.wav", "mimeType": "audio/wav", "buffer": sound(0.2)}
    )
    # Browsers scale 16 bits by 32,767 or by 32,768.
    loudness.get_by_text(re.compile(r"^0\.(50|4999)")).wait_for()
    assert sent(tab.asked[-1]).inputs["sound"].shape == (1, 3200)
    heard.get_by_role("button", name="Record").click()
    tab.wait_for_timeout(300)
    heard.get_by_role("button", name="Stop, and ask").click()
    heard.get_by_text(re.compile("at 16000 samples a second")).wait_for()
    settled(tab)
    assert sent(tab.asked[-1]).inputs["sound"].shape[1] > 1600
    assert browsing.serious(tab) == []


def test_a_model_of_pictures_of_any_size_gets_floats_and_draws_a_map(
    opened: Opened, bundle: Path, tmp_path: Path
) -> None:
    made_bundle.of_pictures(bundle, tmp_path / "bundle")
    file, picture = image()
    with serving(tmp_path / "bundle", tmp_path / "log") as server:
        tab = opened(f"http://{server.http_url}")
        tab.get_by_label("Choose an image").wait_for()
        drop(tab, file)
        answer = said(tab)
        (pixels,) = sent(tab.asked[-1]).inputs["picture"]
        np.testing.assert_allclose(pixels, np.asarray(picture) / 255, atol=1e-6)
        assert answer == ("yes" if pixels.mean() > 0.5 else "no")
        assert tab.locator("canvas.map").evaluate("one => [one.height, one.width]") == [45, 70]
        shares = np.bincount(pixels.argmax(-1).ravel(), minlength=3) / pixels[..., 0].size
        caption = tab.locator(".outputs .note").inner_text()
        for name, share in zip(made_bundle.COLOURS, shares, strict=True):
            assert f"{name} {100 * share:.1f} %" in caption


VALUES = {
    "bool": "1 0 1",
    "int8": "-128 127 0 5",
    "int32": "-70000",
    "int64": "-3 9007199254740991",
    "uint8": "255 0 7",
    "float16": "0.333 -65504 6e-8 1.00048828125",
    "float32": "0.1 -2.5e10 3",
    "float64": "0.1 1e300",
}


def test_every_type_goes_there_and_back(opened: Opened, bundle: Path, tmp_path: Path) -> None:
    made_bundle_of_types.make(bundle, tmp_path / "bundle")
    with serving(tmp_path / "bundle", tmp_path / "log") as server:
        tab = opened(f"http://{server.http_url}")
        for place, text in enumerate(VALUES.values()):
            card, numbers = tab.locator("#inputs .card").nth(place), text.split()
            if card.locator("textarea").is_visible():
                card.locator("textarea").fill(text)
            for field, number in zip(card.locator(".fields input").all(), numbers, strict=False):
                field.fill(number)
        settled(tab)
        found = tab.locator(".numbers").all_text_contents()
    for (dtype, text), line in zip(VALUES.items(), found, strict=True):
        expected = np.array([float(one) for one in text.split()]).astype(dtype).astype(float)
        assert [float(one) for one in line.split(", ")] == pytest.approx(expected.tolist(), rel=1e-4), dtype


def test_what_does_not_fit_is_said_and_not_sent(opened: Opened, numbers: str) -> None:
    tab = opened(numbers, refused=True)
    enter(tab)
    table = tab.locator("#inputs .card").nth(1)
    for words, complaint in (
        ("1, 2, 3", "does not fit [8, 8]"),
        ("[[1, 2], [3]]", "different lengths"),
        ("a, b", "Not all of it is numbers"),
    ):
        table.locator("textarea").fill(words)
        table.locator(".told", has_text=complaint).wait_for()
    assert tab.asked == []


def test_a_server_that_is_gone_is_missed_and_found_again(opened: Opened, bundle: Path, tmp_path: Path) -> None:
    with serving(bundle, tmp_path / "log") as server:
        tab = opened(f"http://{server.http_url}", refused=True)
        draw(tab)
        said(tab)
        assert server.stop() == 0
        tab.get_by_label("Swap black and white").check()
        tab.locator("#trouble", has_text="does not answer").wait_for()
    with serving(bundle, tmp_path / "log", f"serve.http_port={server.http}"):
        tab.locator("#trouble").wait_for(state="hidden")
        settled(tab)
        assert tab.asked[-1].response().status == 200


def test_the_page_asks_nobody_else(address: str) -> None:
    with urllib.request.urlopen(address) as response:
        page, policy = response.read().decode(), response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"https?://[\w.]+", page) == []
