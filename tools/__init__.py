"""What sets a fresh clone up: standard library only, run before anything is installed."""
