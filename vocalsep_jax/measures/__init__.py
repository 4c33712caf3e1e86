"""How good a mask or a waveform is: losses that training minimises, and metrics."""
