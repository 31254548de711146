"""Channels, locks, events and the like, for threads and tasks alike: the public classes over those in Rust."""
