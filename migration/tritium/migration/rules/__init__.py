"""The rules: each finds one thing that a move to Tritium meets, says why, and what becomes of it."""
