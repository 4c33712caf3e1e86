"""The page, made with Gradio, and its server."""

from __future__ import annotations

import contextlib
import html
import importlib.resources
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Gradio looks at these when it is imported: it would tell its makers of each start.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"

import gradio as gr
from starlette.middleware import Middleware

from vocalsep_jax.audio.encoding import CONTAINERS, Encoding
from vocalsep_jax.audio.files import track_name
from vocalsep_jax.runtime.console import one_line
from vocalsep_jax.separation.arguments import seconds_of
from vocalsep_jax.web.guard import COOKIE, Guard
from vocalsep_jax.web.jobs import Jobs, RefusedError, Wish
from vocalsep_jax.web.routes import Songs
from vocalsep_jax.web.storage import Storage

_SAMPLES = {"int16": "16 bit", "int24": "24 bit", "float32": "32-bit float", None: ""}
FORMATS = {
    f"{container} {_SAMPLES[sample]}".strip(): Encoding.of(container, sample)
    for container, kind in CONTAINERS.items()
    for sample in kind.subtypes
}
"""The formats of stems, by what they are called on the page."""

_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_CSS = """
footer { display: none !important; }
.gradio-container { max-width: 960px !important; margin: 0 auto !important; }
#songs .html-container { padding: 0 !important; }
#heading h1 { margin-bottom: 0.2rem; }
"""


@dataclass(frozen=True)
class Address:
    """Where the page is served.

    Attributes:
      host, port: as `--host` and `--port` have them.
      user: name and password that have to be given; None if nobody is asked.
      names: hosts that the server goes by; None for any.
    """

    host: str
    port: int
    user: tuple[str, str] | None
    names: frozenset[str] | None


def _songs(jobs: Jobs, session: str) -> str:
    """The element of `mixer.js` that shows a user's songs, the newest first."""
    keys = " ".join(job.key for job in reversed(jobs.of(session)))
    return f'<vocalsep-songs data-keys="{html.escape(keys)}"></vocalsep-songs>' if keys else ""


def _session(request: gr.Request) -> str:
    """A user: the browser, by a cookie that nobody guesses, and its tab, by Gradio's name for it."""
    return f"{request.cookies.get(COOKIE, '')} {request.session_hash}"


def make_page(jobs: Jobs, storage: Storage, models: Sequence[str]) -> gr.Blocks:
    """The page.

    Args:
      jobs: what takes the songs.
      storage: where files come in.
      models: names to choose from, the first as the default.
    """

    def submit(
        files: list[str] | None,
        recording: str | None,
        model: str,
        sound: str,
        start: str | None,
        duration: str | None,
        request: gr.Request,
    ) -> tuple[None, None, str]:
        session = _session(request)
        paths = [Path(path) for path in [*(files or []), *([recording] if recording else [])]]
        try:
            if not paths:
                raise ValueError("add a song first")
            if model not in models or sound not in FORMATS:
                raise ValueError("no such model or format")
            part = seconds_of(duration) if duration else None
            if part == 0:
                raise ValueError("the duration must be more than 0")
            begin = seconds_of(start) if start else 0.0
            wish = Wish(model, FORMATS[sound], begin, part)
        except ValueError as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from error
        for path in paths:
            try:
                if not storage.holds(path):
                    raise RefusedError("the file is not there any more; add it again")
                jobs.submit(session, path.resolve(), one_line(track_name(path)), wish)
            except RefusedError as error:
                gr.Warning(html.escape(f"{track_name(path)}: {error}"))
        for path in paths:  # jobs have them by names of their own
            storage.remove_upload(path)
        return None, None, _songs(jobs, session)

    def leave(request: gr.Request) -> None:
        jobs.remove(jobs.of(_session(request)))

    with gr.Blocks(title="vocalsep", analytics_enabled=False) as page:
        gr.Markdown(
            "# vocalsep\nSplits the singing voice of songs from the instruments, on the machine that "
            "serves this page. Nothing is kept when the page is closed.",
            elem_id="heading",
        )
        files = gr.File(
            label="Songs: audio or video files",
            show_label=True,
            file_count="multiple",
            height=150,
            elem_id="files",
        )
        with gr.Accordion("Record from the microphone", open=False):
            recording = gr.Audio(
                label="Recording",
                sources=["microphone"],
                type="filepath",
                buttons=[],  # one of them would offer to send it to Gradio's makers
                elem_id="recording",
            )
        with gr.Accordion("Model, part of the song, format", open=False, elem_id="options"):
            with gr.Row():
                model = gr.Dropdown(list(models), value=models[0], label="Model", elem_id="model")
                sound = gr.Dropdown(
                    list(FORMATS), value=next(iter(FORMATS)), label="Format of the stems", elem_id="format"
                )
            with gr.Row():
                start = gr.Textbox(label="From (seconds, or m:ss)", placeholder="0:00", elem_id="start")
                duration = gr.Textbox(
                    label="Duration (seconds, or m:ss)", placeholder="to the end", elem_id="duration"
                )
        button = gr.Button("Separate", variant="primary", elem_id="separate")
        songs = gr.HTML(elem_id="songs")
        button.click(
            submit,
            [files, recording, model, sound, start, duration],
            [files, recording, songs],
            api_visibility="private",
            concurrency_limit=None,
            show_progress="hidden",
        )
        page.unload(leave)
    return page


def _head() -> str:
    """The mixer's program and looks, within the page: one request less, and no file to be found."""
    folder = importlib.resources.files("vocalsep_jax") / "web"
    program, looks = ((folder / name).read_text(encoding="utf-8") for name in ("mixer.js", "mixer.css"))
    return f"<style>{looks}</style><script>{program}</script>"


@contextlib.contextmanager
def served(
    jobs: Jobs, storage: Storage, models: Sequence[str], address: Address, largest: int
) -> Iterator[str]:
    """Serve the page while the block runs; gives its address.

    Args:
      jobs, storage, models: as for `make_page`.
      address: where.
      largest: bytes that a file may have.

    Raises:
      OSError: if the address is in use, or not one of this machine.
    """
    guard = Middleware(
        Guard, storage=storage, largest=largest + 2**16, files=jobs.limits.songs, hosts=address.names
    )
    page = make_page(jobs, storage, models)
    page.queue(default_concurrency_limit=None, max_size=256)
    try:
        _, url, _ = page.launch(
            server_name=f"[{address.host}]" if ":" in address.host else address.host,
            server_port=address.port,
            auth=address.user,
            max_file_size=largest,
            app_kwargs={
                "middleware": [guard],
                "routes": Songs(jobs, storage).routes(),
                "docs_url": None,
                "redoc_url": None,
            },
            theme=gr.themes.Default(font=_FONTS, font_mono=["ui-monospace", "monospace"]),
            css=_CSS,
            head=_head(),
            share=False,  # else it is where certain environment variables are set
            mcp_server=False,
            run_history=False,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            show_error=True,
            enable_monitoring=False,
            footer_links=[],
        )
        yield url
    finally:
        page.close(verbose=False)
