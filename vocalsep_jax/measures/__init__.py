"""How good a mask or a waveform is: what training minimises, and what tells of it."""
