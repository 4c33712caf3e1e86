"""The page in a real browser."""

import itertools
import re
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT, tone
from tests.web.conftest import bring, player, song_of

pytestmark = pytest.mark.slow

RATE = 16_000
STEMS = ("vocals", "no_vocals")


def write(path, seconds=8.0):
    """A chord with a beat: something in every stem at any time."""
    x = tone(440, seconds, RATE) + tone(1234, seconds, RATE, level=0.1)
    x *= 0.6 + 0.4 * np.sin(2 * np.pi * 2 * np.arange(len(x)) / RATE)[:, None]
    soundfile.write(path, x, RATE)
    return path


def done(page, title):
    song = song_of(page, title)
    song.locator(".vs-play").wait_for(timeout=60_000)
    return song


def heard(page, title):
    """Wait until a song sounds."""
    deadline = time.monotonic() + 20
    before = player(page, title, "player.position")
    while player(page, title, "player.position") <= before + 1000 and time.monotonic() < deadline:
        page.wait_for_timeout(50)


def level(page, title, stem):
    """The loudest that a stem gives in half a second."""
    levels = []
    for _ in range(10):
        page.wait_for_timeout(50)
        levels.append(player(page, title, f"player.level('{stem}')"))
    return max(levels)


def test_a_song_is_separated_heard_and_taken_home(server, visit, tmp_path):
    wav, mp3 = write(tmp_path / "a song & more.wav", 40.0), tmp_path / "b.mp3"
    soundfile.write(mp3, tone(330, 3.0, 32_000), 32_000, format="MP3")
    page = visit(server, accept_downloads=True)
    bring(page, wav, mp3)
    for title in ("a song & more", "b"):
        song = done(page, title)
        assert re.search(r"Done.*by tiny, \d+ s, [\d.]+ . real time", song.inner_text().replace("\n", " "))
        for what in ("Mixture", "Voice", "Rest"):
            picture = song.get_by_alt_text(f"Spectrogram: {what}")
            page.wait_for_function(
                "image => image.complete && image.naturalWidth > 0", arg=picture.element_handle()
            )

    title, song = "a song & more", song_of(page, "a song & more")
    page.evaluate(
        """() => {
          window.starts = [];
          const { start } = AudioBufferSourceNode.prototype;
          AudioBufferSourceNode.prototype.start = function (when) {
            starts.push({ when, seconds: this.buffer.duration });
            start.call(this, when);
          };
        }"""
    )
    song.locator(".vs-play").click()
    heard(page, title)
    page.wait_for_timeout(1500)
    clocks = [player(page, title, f"player.clock('{stem}')") for stem in STEMS]
    assert player(page, title, "player.clock('vocals') === player.clock('no_vocals')")
    assert 0 < clocks[0] <= clocks[1] < 40 * RATE
    starts = page.evaluate("starts")  # what the audio graph was told, two stems at a time
    assert len(starts) >= 4
    assert starts[::2] == starts[1::2]
    assert all(
        a["when"] + a["seconds"] == pytest.approx(b["when"]) for a, b in itertools.pairwise(starts[::2])
    )
    assert all(level(page, title, stem) > 1e-3 for stem in STEMS)

    song.get_by_role("button", name="Mute: Voice").click()
    page.wait_for_timeout(300)
    assert level(page, title, "vocals") < 1e-4 < level(page, title, "no_vocals")
    song.get_by_role("button", name="Mute: Voice").click()
    song.get_by_role("button", name="Solo: Voice").click()
    page.wait_for_timeout(300)
    assert level(page, title, "no_vocals") < 1e-4 < level(page, title, "vocals")
    song.get_by_role("button", name="Solo: Voice").click()
    page.wait_for_timeout(300)
    before = level(page, title, "no_vocals")
    slider = song.get_by_label("Rest", exact=True).get_by_role("slider")
    for _ in range(12):
        slider.press("ArrowLeft")
    page.wait_for_timeout(300)
    assert level(page, title, "no_vocals") == pytest.approx(before * 10 ** (-12 / 20), rel=0.1)
    assert "\N{MINUS SIGN}12 dB" in song.inner_text()

    song.locator(".vs-play").click()
    assert song.locator(".vs-play").inner_text() == "Play"
    spectra = song.get_by_role("slider", name="Playing position")
    box = spectra.bounding_box()
    spectra.click(position={"x": box["width"] * 0.75, "y": 30})
    assert player(page, title, "player.position") == pytest.approx(30 * RATE, abs=RATE)
    spectra.press("ArrowLeft")
    assert player(page, title, "player.position") == pytest.approx(25 * RATE, abs=RATE)

    with page.expect_download() as download:
        song.get_by_role("link", name="Voice (wav)").click()
    assert download.value.suggested_filename == "a song & more - vocals.wav"
    download.value.save_as(tmp_path / "vocals.wav")
    with page.expect_download() as download:
        song.get_by_role("link", name="Both (zip)").click()
    download.value.save_as(tmp_path / "both.zip")
    command = [sys.executable, "-m", "vocalsep_jax.separate", str(wav), "--checkpoint", str(server.run)]
    command += ["--batch-size", "2", "-o", str(tmp_path / "out")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    by_command = {
        stem: (tmp_path / "out/tiny/a song & more" / f"{stem}.wav").read_bytes() for stem in STEMS
    }
    assert (tmp_path / "vocals.wav").read_bytes() == by_command["vocals"]
    with zipfile.ZipFile(tmp_path / "both.zip") as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {f"a song & more - {stem}.wav": content for stem, content in by_command.items()}


def test_a_part_is_played_over_and_over(server, visit, tmp_path):
    page = visit(server)
    bring(page, write(tmp_path / "loop.wav"))
    song = done(page, "loop")
    spectra = song.get_by_role("slider", name="Playing position")
    spectra.scroll_into_view_if_needed()
    box = spectra.bounding_box()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.375 * box["width"], box["y"] + 20, steps=4)
    page.mouse.up()
    begin, end = player(page, "loop", "player.loop")
    assert (begin, end) == pytest.approx((2 * RATE, 3 * RATE), abs=0.1 * RATE)
    spectra.press(" ")
    places = []
    for _ in range(30):
        page.wait_for_timeout(100)
        places.append(player(page, "loop", "player.position"))
    assert all(begin <= place <= end for place in places)
    assert sum(b < a for a, b in itertools.pairwise(places)) >= 2  # it went back
    song.get_by_role("button", name="No loop").click()
    page.wait_for_function("end => [...vocalsepSongs.values()][0].mixer.player.position > end", arg=end)

    song.locator(".vs-play").click()
    spectra.press("Home")
    spectra.press("ArrowRight")
    song.get_by_role("button", name="Loop to here").click()
    assert player(page, "loop", "player.loop") == [0, 5 * RATE]
    assert player(page, "loop", "player.position") == 0  # it went back
    spectra.press("End")
    song.get_by_role("button", name="Loop from here").click()
    begin, end = player(page, "loop", "player.loop")
    assert (end, end - begin) == (8 * RATE, RATE // 4)  # no shorter than that


def test_a_song_of_a_few_samples(server, visit, tmp_path):
    soundfile.write(tmp_path / "short.wav", tone(440, 0.01, RATE), RATE)
    page = visit(server)
    bring(page, tmp_path / "short.wav")
    song = done(page, "short")
    song.get_by_role("button", name="Loop to here").click()
    assert player(page, "short", "player.loop") is None
    song.locator(".vs-play").click()
    song.get_by_text("Play", exact=True).wait_for()
    assert song.get_by_role("alert").inner_text() == ""


def test_what_is_chosen_is_what_comes(server, visit, tmp_path):
    page = visit(server, viewport={"width": 390, "height": 844})
    page.get_by_text("Model, part of the song, format").click()
    page.get_by_label("Format of the stems").click()
    page.get_by_role("option", name="flac 24 bit").click()
    page.get_by_label("From (seconds, or m:ss)").fill("0:02")
    page.get_by_label("Duration (seconds, or m:ss)").fill("3")
    bring(page, write(tmp_path / "part.wav"))
    song = done(page, "part")
    assert "0:02 of 0:05" in song.inner_text()
    with page.expect_download() as download:
        song.get_by_role("link", name="Rest (flac)").click()
    download.value.save_as(tmp_path / "rest.flac")
    found = soundfile.info(tmp_path / "rest.flac")
    assert (found.frames, found.subtype) == (3 * RATE, "PCM_24")
    song.locator(".vs-play").click()  # what plays is made of the file that was written
    heard(page, "part")
    assert level(page, "part", "no_vocals") > 1e-3
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390


def test_a_recording(server, visit):
    page = visit(server, permissions=["microphone"])
    page.get_by_text("Record from the microphone").click()
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(3000)
    with page.expect_response("**/gradio_api/upload*"):
        page.get_by_role("button", name="Stop").first.click()
    page.get_by_role("button", name="Play").first.wait_for()
    page.get_by_role("button", name="Separate").click()
    done(page, "audio")
    assert player(page, "audio", "player.samples / player.rate") == pytest.approx(3, abs=1.5)


def test_what_is_no_song_is_refused_in_a_line(server, visit, tmp_path):
    (tmp_path / "text.wav").write_text("not a song, whatever its name says" * 100)
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "long.wav", np.zeros(130 * 8000, np.int16), 8000)
    messages = {
        "text": "not readable as audio",
        "empty": "not readable as audio",
        "long": "longer than 2 min, which is the most here; choose a part of it",
    }
    page = visit(server)
    bring(page, *(tmp_path / f"{title}.wav" for title in messages))
    for title, message in messages.items():
        alert = song_of(page, title).get_by_role("alert")
        alert.wait_for()
        assert alert.inner_text().startswith(message)
        assert "/" not in alert.inner_text()  # no path of the server


def test_a_file_above_the_limit_does_not_come_in(server, visit, tmp_path):
    soundfile.write(tmp_path / "large.wav", np.zeros(5_000_000 // 2, np.int16), 44_100)
    page = visit(server)
    page.set_input_files("#files input[type=file]", str(tmp_path / "large.wav"))
    page.get_by_text("maximum allowed size").first.wait_for()
    page.get_by_role("button", name="Separate").click()
    page.get_by_text("add a song first").first.wait_for()


def test_two_users_do_not_see_each_others_songs(server, visit, tmp_path):
    pages = {name: visit(server) for name in ("one", "two")}
    for name, page in pages.items():
        bring(page, write(tmp_path / f"{name}.wav", seconds=2.0))
    for name, page in pages.items():
        done(page, name)
        assert page.locator("section.vs-song").count() == 1


def test_songs_wait_and_a_cancelled_one_frees_the_machine(slow_server, visit, tmp_path):
    first, second = visit(slow_server), visit(slow_server)
    bring(first, write(tmp_path / "first.wav", seconds=120.0))
    song = song_of(first, "first")
    song.get_by_text(re.compile(r"\d+ %, [\d.]+ . real time, .* left")).wait_for(timeout=60_000)
    bar = song.get_by_role("progressbar")
    share = int(bar.get_attribute("aria-valuenow"))
    moved = "([bar, share]) => Number(bar.getAttribute('aria-valuenow')) > share"
    first.wait_for_function(moved, arg=[bar.element_handle(), share], timeout=60_000)
    bring(second, write(tmp_path / "second.wav", seconds=1.0))
    song_of(second, "second").get_by_text("1 song before it").wait_for()
    song.get_by_role("button", name="Cancel").click()
    done(second, "second")
    assert first.locator("section.vs-song").count() == 0


def test_a_server_that_does_not_answer(server, visit, tmp_path):
    page = visit(server)
    bring(page, write(tmp_path / "cut.wav"))
    song = done(page, "cut")
    page.context.set_offline(True)
    song.locator(".vs-play").click()
    song.get_by_text("The server does not answer.").wait_for()
    page.context.set_offline(False)
    song.locator(".vs-play").click()
    heard(page, "cut")
    assert player(page, "cut", "player.position") > 0
    assert "does not answer" not in song.inner_text()


def test_songs_are_gone_when_the_page_is_closed(server, visit, tmp_path):
    page = visit(server)
    bring(page, write(tmp_path / "gone.wav", seconds=1.0))
    done(page, "gone")
    key = page.evaluate("[...vocalsepSongs.keys()][0]")
    (folder,) = server.temporary.glob(f"vocalsep-serve-*/songs/{key}")
    page.close()
    deadline = time.monotonic() + 20
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not folder.exists()
