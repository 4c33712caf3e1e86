// The songs of a user: how far each is, and, once it is done, a mixer of its two stems.
// <vocalsep-songs data-keys="KEY KEY"> shows them; `songs/KEY/...` gives what there is of each (routes.py).
(() => {
  "use strict";

  const STEMS = { vocals: "Voice", no_vocals: "Rest" };
  const PIECE = 2; // seconds of sound that are fetched, and begun, at a time
  const AHEAD = 3; // seconds of sound that wait for their turn in the audio graph
  const STEP = 5; // seconds that an arrow key moves
  const SILENT_DB = -40; // where a gain slider ends: nothing at all

  function make(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name === "text") element.textContent = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  // What does not change is left alone: readers of the screen, and the focus, would notice.
  function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function clockTime(seconds) {
    const whole = Math.floor(seconds + 1e-6);
    const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    const two = (x) => String(x).padStart(2, "0");
    return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
  }

  function inWords(seconds) {
    const whole = Math.round(seconds);
    return whole >= 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole} s`;
  }

  // One context for each sample rate: its clock is that of both stems, and nothing is resampled by pieces.
  const contexts = new Map();
  function contextOf(rate) {
    if (!contexts.has(rate)) {
      let context;
      try {
        context = new AudioContext({ sampleRate: rate });
      } catch {
        context = new AudioContext(); // a rate that the browser does not play
      }
      contexts.set(rate, context);
    }
    return contexts.get(rate);
  }

  let sounding = null; // the player that plays: one at a time

  // Plays the stems in step: pieces of the same samples begin at the same time of one clock.
  class Player {
    constructor(base, facts, changed) {
      Object.assign(this, { base, changed, rate: facts.rate, samples: facts.samples, channels: facts.channels });
      this.place = 0; // in samples, while nothing plays
      this.loop = null; // [from, to] in samples
      this.playing = false;
      this.error = "";
      this.turn = 0; // what was begun in an earlier turn is of no use any more
      this.tracks = {};
      for (const stem of Object.keys(STEMS)) {
        this.tracks[stem] = { gain: 1, muted: false, solo: false, node: null, meter: null, pieces: [], sources: new Set() };
      }
    }

    prepare() {
      if (this.context) return;
      this.context = contextOf(this.rate);
      for (const track of Object.values(this.tracks)) {
        track.node = this.context.createGain();
        track.meter = this.context.createAnalyser();
        track.node.connect(track.meter).connect(this.context.destination);
      }
      this.mix(0);
    }

    // Brings gains, mutes and solos into the graph, within some milliseconds so that nothing clicks.
    mix(glide = 0.01) {
      const tracks = Object.values(this.tracks);
      const some = tracks.some((track) => track.solo);
      for (const track of tracks) {
        if (!track.node) continue;
        const gain = track.muted || (some && !track.solo) ? 0 : track.gain;
        if (glide) track.node.gain.setTargetAtTime(gain, this.context.currentTime, glide);
        else track.node.gain.value = gain;
      }
    }

    // Where a stem is, in samples, by its own pieces.
    clock(stem) {
      const { pieces } = this.tracks[stem];
      if (!this.playing || !pieces.length) return this.place;
      const now = this.context.currentTime;
      while (pieces.length > 1 && pieces[1].when <= now) pieces.shift();
      const { when, at, count } = pieces[0];
      return at + Math.min(count, Math.max(0, (now - when) * this.rate));
    }

    get position() {
      return this.clock("vocals");
    }

    // The root mean square of what a stem gives at the moment, after its gain.
    level(stem) {
      const { meter } = this.tracks[stem];
      if (!meter || !this.playing) return 0;
      const samples = new Float32Array(meter.fftSize);
      meter.getFloatTimeDomainData(samples);
      return Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);
    }

    async piece(stem, start, count) {
      const answer = await fetch(`${this.base}/${stem}/samples?start=${start}&count=${count}`);
      if (!answer.ok) throw new Error(answer.status === 404 ? "The song is not on the server any more." : "The server gives no sound.");
      const samples = new Float32Array(await answer.arrayBuffer());
      const buffer = this.context.createBuffer(this.channels, count, this.rate);
      for (let channel = 0; channel < this.channels; channel++) {
        const column = buffer.getChannelData(channel);
        for (let i = 0; i < count; i++) column[i] = samples[i * this.channels + channel];
      }
      return buffer;
    }

    async play() {
      if (this.playing) return;
      if (sounding && sounding !== this) sounding.pause();
      sounding = this;
      this.prepare();
      this.playing = true;
      this.error = "";
      const turn = ++this.turn;
      let at = this.place >= this.samples ? 0 : this.place;
      let when = 0;
      try {
        await this.context.resume();
        while (turn === this.turn) {
          const end = this.loop && at < this.loop[1] ? this.loop[1] : this.samples;
          const count = Math.min(Math.round(PIECE * this.rate), end - at);
          const stems = Object.keys(STEMS);
          const buffers = await Promise.all(stems.map((stem) => this.piece(stem, at, count)));
          if (turn !== this.turn) return;
          when = Math.max(when, this.context.currentTime + 0.05);
          stems.forEach((stem, i) => this.begin(this.tracks[stem], buffers[i], when, at, count));
          when += count / this.rate;
          at += count;
          if (this.loop && at === this.loop[1]) at = this.loop[0];
          const last = at >= this.samples;
          const wait = when - this.context.currentTime - (last ? 0 : AHEAD);
          if (wait > 0) await new Promise((done) => setTimeout(done, 1000 * wait));
          if (last && turn === this.turn) {
            this.halt();
            this.place = 0;
          }
        }
      } catch (error) {
        if (turn !== this.turn) return;
        this.pause();
        this.error = error instanceof TypeError ? "The server does not answer." : error.message;
      }
      this.changed();
    }

    begin(track, buffer, when, at, count) {
      const source = this.context.createBufferSource();
      source.buffer = buffer;
      source.connect(track.node);
      source.start(when);
      source.onended = () => track.sources.delete(source);
      track.sources.add(source);
      track.pieces.push({ when, at, count });
    }

    halt() {
      this.playing = false;
      this.turn++;
      for (const track of Object.values(this.tracks)) {
        for (const source of track.sources) source.stop();
        track.sources.clear();
        track.pieces = [];
      }
    }

    close() {
      this.halt();
      for (const { node, meter } of Object.values(this.tracks)) {
        node?.disconnect();
        meter?.disconnect();
      }
    }

    pause() {
      if (!this.playing) return;
      const place = Math.round(this.position);
      this.halt();
      this.place = place;
      this.changed();
    }

    seek(sample) {
      const playing = this.playing;
      if (playing) this.halt();
      this.place = Math.min(Math.max(0, Math.round(sample)), this.samples - 1);
      if (playing) this.play();
    }

    setLoop(from, to) {
      // Pieces of shorter ones would be asked for faster than they come.
      const least = Math.round(this.rate / 4);
      if (this.samples < least) return;
      const [a, b] = [Math.round(Math.min(from, to)), Math.round(Math.max(from, to))];
      const begin = Math.min(Math.max(0, a), this.samples - least);
      this.loop = [begin, Math.min(this.samples, Math.max(b, begin + least))];
      const here = this.position; // pieces that wait were cut without the loop, so they are begun anew
      this.seek(here >= begin && here < this.loop[1] ? here : begin);
    }

    clearLoop() {
      this.loop = null;
      if (this.playing) this.seek(this.position);
    }
  }

  class Mixer {
    constructor(base, facts, title) {
      this.base = base;
      this.facts = facts;
      this.title = title; // the id of the song's heading
      this.player = new Player(base, facts, () => this.show());
      this.element = make("div", { class: "vs-mixer" }, this.spectra(), this.axis(), this.transport());
      for (const stem of Object.keys(STEMS)) this.element.append(this.track(stem));
      this.error = make("p", { class: "vs-error", role: "alert" });
      this.element.append(this.error, this.downloads());
      this.show();
    }

    spectra() {
      const { lowest, highest, range } = this.facts.picture;
      const rows = Object.entries({ mixture: "Mixture", ...STEMS }).map(([what, name]) => {
        const image = make("img", { src: `${this.base}/${what}/picture.png`, alt: `Spectrogram: ${name}`, draggable: "false" });
        const ticks = [100, 1000, 10000].map((hertz) => {
          const share = 1 - Math.log(hertz / lowest) / Math.log(highest / lowest);
          const text = hertz < 1000 ? `${hertz} Hz` : `${hertz / 1000} kHz`;
          return make("span", { class: "vs-tick", style: `top: ${100 * share}%`, text });
        });
        return make("div", { class: "vs-spectrum" }, image, make("span", { class: "vs-name", text: name }), ...ticks);
      });
      this.line = make("div", { class: "vs-head-line" });
      this.part = make("div", { class: "vs-loop", hidden: "" });
      this.slider = make("div", {
        class: "vs-spectra", role: "slider", tabindex: "0", "aria-label": "Playing position", "aria-valuemin": "0",
        "aria-valuemax": String(Math.floor(this.facts.samples / this.facts.rate)),
        title: `Spectrograms, ${range[0]} dB (dark) to ${range[1]} dB (bright). Click to go there, drag to loop a part.`,
        onkeydown: (event) => this.key(event), onpointerdown: (event) => this.press(event),
      }, ...rows, this.part, this.line);
      return this.slider;
    }

    axis() {
      const start = this.facts.start;
      const seconds = this.facts.samples / this.facts.rate;
      const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => make("span", { text: clockTime(start + share * seconds) }));
      return make("div", { class: "vs-axis", "aria-hidden": "true" }, ...ticks);
    }

    transport() {
      const button = (text, onclick, more = {}) => make("button", { type: "button", text, onclick, ...more });
      this.toggle = button("Play", () => this.playOrPause(), { class: "vs-play", ...this.named("play") });
      this.time = make("span", { class: "vs-time vs-note" });
      this.from = button("Loop from here", () => this.mark("from"));
      this.to = button("Loop to here", () => this.mark("to"));
      this.endless = button("No loop", () => { this.player.clearLoop(); this.show(); });
      const first = button("To the start", () => { this.player.seek(this.player.loop ? this.player.loop[0] : 0); this.show(); });
      return make("div", { class: "vs-row" }, this.toggle, first, this.time, this.from, this.to, this.endless);
    }

    track(stem) {
      const track = this.player.tracks[stem];
      const name = STEMS[stem];
      const id = `vs-gain-${Math.random().toString(36).slice(2)}`;
      const output = make("output", { for: id, text: "0 dB" });
      const slider = make("input", {
        id, type: "range", min: String(SILENT_DB), max: "12", step: "1", value: "0", "aria-valuetext": "0 dB",
        oninput: () => {
          const decibels = Number(slider.value);
          track.gain = decibels <= SILENT_DB ? 0 : 10 ** (decibels / 20);
          output.textContent = decibels <= SILENT_DB ? "silent" : `${decibels > 0 ? "+" : ""}${decibels} dB`.replace("-", "−");
          slider.setAttribute("aria-valuetext", output.textContent);
          this.player.mix();
        },
      });
      const flag = (field, text) => {
        const button = make("button", {
          type: "button", text, "aria-pressed": "false", "aria-label": `${text}: ${name}`,
          onclick: () => {
            track[field] = !track[field];
            button.setAttribute("aria-pressed", String(track[field]));
            this.player.mix();
          },
        });
        return button;
      };
      track.bar = make("div");
      return make("div", { class: "vs-track", "data-stem": stem, role: "group", "aria-label": name },
        make("label", { for: id, text: name }), flag("muted", "Mute"), flag("solo", "Solo"), slider, output,
        make("div", { class: "vs-meter", "aria-hidden": "true" }, track.bar));
    }

    downloads() {
      const link = (href, text) => make("a", { class: "vs-button", href, download: "", text, ...this.named(text.slice(0, 4)) });
      const stems = Object.keys(STEMS).map((stem) =>
        link(`${this.base}/${stem}/file`, `${STEMS[stem]} (${this.facts.container})`));
      return make("div", { class: "vs-row" }, make("span", { class: "vs-note", text: "Download:" }), ...stems,
        link(`${this.base}/all.zip`, "Both (zip)"));
    }

    // Attributes by which one of many songs' buttons is told from the others'.
    named(what) {
      const id = `${this.title}-${what}`;
      return { id, "aria-labelledby": `${id} ${this.title}` };
    }

    playOrPause() {
      if (this.player.playing) this.player.pause();
      else this.player.play();
      this.show();
    }

    mark(end) {
      const { player } = this;
      const [from, to] = player.loop ?? [0, player.samples];
      const here = player.position;
      if (end === "from") player.setLoop(here, to > here ? to : player.samples);
      else player.setLoop(from < here ? from : 0, here);
      this.show();
    }

    key(event) {
      const { player } = this;
      if (event.altKey || event.ctrlKey || event.metaKey) return; // the browser's own
      const by = (seconds) => player.position + seconds * player.rate;
      const moves = {
        ArrowLeft: by(-STEP), ArrowDown: by(-STEP), ArrowRight: by(STEP), ArrowUp: by(STEP),
        PageDown: by(-6 * STEP), PageUp: by(6 * STEP), Home: 0, End: player.samples,
      };
      if (event.key in moves) player.seek(moves[event.key]);
      else if (event.key === " " || event.key === "Enter") this.playOrPause();
      else return;
      event.preventDefault();
      this.show();
    }

    press(event) {
      if (event.button) return;
      const box = this.slider.getBoundingClientRect();
      const sample = (x) => Math.min(Math.max(0, (x - box.left) / box.width), 1) * this.player.samples;
      const begin = event.clientX;
      let dragged = false;
      this.slider.setPointerCapture(event.pointerId);
      const move = (moved) => {
        dragged ||= Math.abs(moved.clientX - begin) > 8;
        if (dragged) this.showPart(sample(begin), sample(moved.clientX));
      };
      const end = (ended) => {
        for (const [name, listener] of Object.entries({ pointermove: move, pointerup: end, pointercancel: end })) {
          this.slider.removeEventListener(name, listener);
        }
        if (ended.type === "pointerup" && dragged) {
          this.player.setLoop(sample(begin), sample(ended.clientX));
          if (this.player.loop) this.player.seek(this.player.loop[0]);
        } else if (ended.type === "pointerup") {
          this.player.seek(sample(ended.clientX));
        }
        this.show();
      };
      this.slider.addEventListener("pointermove", move);
      this.slider.addEventListener("pointerup", end);
      this.slider.addEventListener("pointercancel", end);
    }

    showPart(from, to) {
      const share = (sample) => (100 * sample) / this.player.samples;
      this.part.hidden = false;
      this.part.style.left = `${share(Math.min(from, to))}%`;
      this.part.style.width = `${share(Math.abs(to - from))}%`;
    }

    // All that changes; while it plays, at each frame of the screen.
    show() {
      const { player, facts } = this;
      const seconds = player.position / player.rate;
      const text = `${clockTime(facts.start + seconds)} of ${clockTime(facts.start + player.samples / player.rate)}`;
      this.line.style.left = `${(100 * player.position) / player.samples}%`;
      setText(this.time, text);
      this.slider.setAttribute("aria-valuenow", String(Math.floor(seconds)));
      this.slider.setAttribute("aria-valuetext", text);
      setText(this.toggle, player.playing ? "Pause" : "Play");
      setText(this.error, player.error);
      if (player.loop) this.showPart(...player.loop);
      else this.part.hidden = true;
      for (const stem of Object.keys(STEMS)) {
        const track = player.tracks[stem];
        track.seen = Math.max(player.level(stem), 0.9 * (track.seen ?? 0)); // falls slowly enough to be seen
        const decibels = 20 * Math.log10(track.seen + 1e-6);
        track.bar.style.transform = `scaleX(${Math.min(1, Math.max(0, 1 + decibels / 60))})`;
      }
      const falling = Object.values(player.tracks).some((track) => track.seen > 1e-3);
      if ((player.playing || falling) && !this.frame) {
        this.frame = requestAnimationFrame(() => { this.frame = 0; this.show(); });
      }
    }

    close() {
      this.player.close();
    }
  }

  class Song {
    constructor(key) {
      this.base = `songs/${key}`;
      this.id = `vs-title-${key}`;
      this.title = make("h3", { class: "vs-title", id: this.id });
      this.status = make("span", { class: "vs-note", role: "status" });
      this.detail = make("span", { class: "vs-note" });
      const stop = `vs-stop-${key}`;
      const named = { id: stop, "aria-labelledby": `${stop} ${this.id}` };
      this.stop = make("button", { type: "button", text: "Cancel", onclick: () => this.remove(), ...named });
      this.bar = make("div");
      this.progress = make("div", { class: "vs-bar", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-labelledby": this.id }, this.bar);
      this.message = make("p", { class: "vs-error", role: "alert", hidden: "" });
      this.element = make("section", { class: "vs-song", "data-state": "new", "aria-labelledby": this.id, tabindex: "-1" },
        make("div", { class: "vs-head" }, this.title, this.status, this.detail, this.stop), this.progress, this.message);
      this.ask();
    }

    async ask() {
      let wait = 300;
      try {
        const answer = await fetch(`${this.base}/state`, { cache: "no-store" });
        if (this.gone) return;
        if (answer.status === 404) return this.end("gone", "The song is not on the server any more.");
        this.show(await answer.json());
        if (!["waiting", "working"].includes(this.element.dataset.state)) return;
      } catch {
        this.detail.textContent = "The server does not answer.";
        wait = 2000;
      }
      setTimeout(() => this.ask(), wait);
    }

    show(state) {
      const share = state.total ? Math.min(1, state.done / state.total) : 0;
      const speed = state.done / Math.max(state.seconds, 1e-9);
      setText(this.title, state.title);
      this.bar.style.width = `${100 * share}%`;
      if (state.total) this.progress.setAttribute("aria-valuenow", String(Math.round(100 * share)));
      else this.progress.removeAttribute("aria-valuenow");
      setText(this.status, { waiting: "Waiting", working: "Separating", done: "Done", failed: "Failed", cancelled: "Cancelled" }[state.state]);
      this.element.dataset.state = state.state;
      if (state.state === "waiting") {
        this.detail.textContent = state.place ? `${state.place} ${state.place === 1 ? "song" : "songs"} before it` : "Next";
      } else if (state.state === "working") {
        const left = state.total && speed ? `, ${inWords((state.total - state.done) / speed)} left` : "";
        const far = state.total ? `${Math.round(100 * share)} %` : clockTime(state.done);
        this.detail.textContent = state.done ? `${far}, ${speed.toFixed(1)} × real time${left}` : "Starting";
      } else if (state.state === "done") {
        const clipped = state.clipped ? `, ${state.clipped} samples clipped` : "";
        this.detail.textContent = `by ${state.model}, ${inWords(state.seconds)}, ${speed.toFixed(1)} × real time${clipped}`;
        this.finish();
        this.mixer = new Mixer(this.base, state, this.id);
        this.element.append(this.mixer.element);
      } else {
        this.end(state.state, state.message);
      }
    }

    finish() {
      this.progress.remove();
      this.stop.textContent = "Remove";
    }

    end(state, message) {
      this.element.dataset.state = state;
      this.finish();
      this.detail.textContent = "";
      this.message.textContent = message;
      this.message.hidden = !message;
    }

    async remove() {
      this.gone = true;
      this.mixer?.close();
      const focused = this.element.contains(document.activeElement);
      const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
      this.element.remove();
      if (focused) (next ?? document.querySelector("#separate"))?.focus();
      try {
        await fetch(`${this.base}/remove`, { method: "POST" });
      } catch {
        // The server removes it by itself when the page is closed.
      }
    }
  }

  // By their keys: the page makes its elements anew when songs are added, and what plays is to go on.
  const songs = new Map();

  class Songs extends HTMLElement {
    connectedCallback() {
      this.className = "vs-songs";
      for (const key of this.dataset.keys.split(" ").filter(Boolean)) {
        if (!songs.has(key)) songs.set(key, new Song(key));
        const song = songs.get(key);
        if (!song.gone) this.append(song.element);
      }
    }
  }

  customElements.define("vocalsep-songs", Songs);
  window.vocalsepSongs = songs; // for whoever wants to look at the audio graph
})();
