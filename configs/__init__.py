"""Configs: each file has a `get_config`; `base` has all fields, the others change some."""
