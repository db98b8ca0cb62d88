"""The journal: one SQLite file that holds what came in, what was decided and what was sent."""
