"""The simulated venue: matching, latency and faults over a synthetic or recorded market."""
