"""Sound: files, containers, resampling; the STFT and masks of spectrograms."""
