"""Nothing may import this: damaged files name it where a reader might take a name for code to run."""
