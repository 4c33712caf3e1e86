"""Whether songs are fit to train on: measures of stems, fingerprints, and what is wrong.

* `files.py` finds the songs of a folder and reads the stems of one side by side.
* `meters.py` measures a waveform as it comes.
* `song.py` measures a song.
* `fingerprint.py` makes fingerprints; `matching.py` finds the same sound under two names.
* `problems.py` says what is wrong, and what to do; `examination.py` does all this for a folder.
* `table.py` and `figure.py` show it.
"""
