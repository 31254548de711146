"""Programs and libraries that many people run, unmodified, on both makes of loop: a smoke of each."""
