"""The built-in songs: generated music with a singing voice, so that everything runs without a download.

A song is a function of its seed, split and index. The same three give the same samples. Two splits never
share a song.

Nothing here is meant to fool a listener. A song has the cues that tell a voice from instruments: harmonics
that move together, formants, consonants, breath.

* `song.py` mixes the songs. Other packages import from this module.
* `score.py` writes the score: tempo, chords and sung melody.
* `voice.py` sings the melody with a source-filter model. The source is a band-limited train of glottal
  pulses with vibrato, glides and jitter, together with aspiration noise. The filter has the formants of
  vowels, which move from syllable to syllable. Consonants are shaped noise and closures. A phrase begins
  with a breath and ends in a rest.
* `band.py` plays the accompaniment in the song's key and tempo: drums, bass, chords and a melodic
  instrument.
* `sound.py` has what both are made with: noise, reverberation, pitch and loudness.

Both the voice and the accompaniment are stereo, with reverberation.
"""
