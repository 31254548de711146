"""Imported by workers: what runs in them finds motet's pools too."""

from ._places import install

install()
