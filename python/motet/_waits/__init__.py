"""Channels, locks, events and the like, for threads and tasks alike: the classes over those in Rust."""
