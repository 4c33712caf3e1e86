"""A server of the page with a tiny network, in a process of its own."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import ROOT


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(run, temporary, *flags, environment=None):
    """`vocalsep serve`; its files are below `temporary`."""
    port = free_port()
    command = [sys.executable, "-m", "vocalsep_jax.serve", "--checkpoint", str(run), "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--batch-size", "2", *flags],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(temporary)} | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = []
    reader = threading.Thread(target=lambda: log.extend(process.stdout), daemon=True)
    reader.start()
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not any("http://" in line for line in log):
            assert process.poll() is None, "".join(log)
            assert time.monotonic() < deadline, "".join(log)
            time.sleep(0.1)
        yield SimpleNamespace(
            url=url, port=port, process=process, log=log, temporary=Path(temporary), run=run
        )
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            process.kill()
            reader.join(5)
            process.stdout.close()


@pytest.fixture(scope="session")
def server(run, tmp_path_factory):
    """One that takes files up to 4 MB and songs up to two minutes."""
    pytest.importorskip("gradio")
    flags = ["--max-size", "4", "--max-duration", "2", "--max-disk", "0.2", "--max-songs", "30"]
    with serving(run, tmp_path_factory.mktemp("served"), *flags) as server:
        yield server


@pytest.fixture(scope="session")
def slow_server(run, tmp_path_factory):
    """One that takes its time: it averages many separations."""
    pytest.importorskip("gradio")
    with serving(run, tmp_path_factory.mktemp("slow"), "--shifts", "40", "--overlap", "0.75") as server:
        yield server


def get(url, **headers):
    """Status and content of an address."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.fixture(scope="session")
def chromium():
    """A browser that Playwright drives."""
    sync_api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((found for name in names if (found := shutil.which(name))), None)
    if executable is None:
        pytest.skip("no chromium here")
    with sync_api.sync_playwright() as playwright:
        # With a microphone that beeps once a second.
        flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Opens the page of a server in a new browser's profile; nothing may be asked of any other machine."""
    asked, errors, contexts = [], [], []

    def visited(server, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url)
        page.get_by_role("button", name="Separate").wait_for()
        return page

    yield visited
    for context in contexts:
        context.close()
    hosts = {
        re.sub(r"^\w+://([^/]*).*", r"\1", url) for url in asked if not url.startswith(("data:", "blob:"))
    }
    assert {re.sub(r":\d+$", "", host) for host in hosts} <= {"127.0.0.1"}
    assert not errors


def bring(page, *songs):
    """Add files, and have them separated."""
    page.set_input_files("#files input[type=file]", [str(song) for song in songs])
    for song in songs:
        page.locator("#files").get_by_text(Path(song).stem, exact=False).first.wait_for()
    page.get_by_role("button", name="Separate").click()


def song_of(page, title):
    """The element of a song."""
    return page.locator("section.vs-song").filter(has=page.get_by_role("heading", name=title, exact=True))


def player(page, title, expression):
    """What JavaScript says of the `player` of a song that is done."""
    return page.evaluate(
        """([title, expression]) => {
          const songs = [...vocalsepSongs.values()];
          const player = songs.find((song) => song.title.textContent === title).mixer.player;
          return new Function("player", `return ${expression}`)(player);
        }""",
        [title, expression],
    )
