"""Statistics on judgements: pure functions of arrays, without Django."""
