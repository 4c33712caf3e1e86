"""The page on which songs are separated and mixed, served by this machine.

`page` is what Gradio shows; `jobs` computes one song after the other; `routes` gives their stems; `storage`
holds the files, `guard` keeps out what the page does not need.
"""
