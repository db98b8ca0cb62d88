"""Whole runs as subjects: in virtual time to their end, scripted, summarised. Above the daemon, below the command
line."""
