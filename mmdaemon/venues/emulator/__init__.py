"""Bitget on loopback: its REST and WebSocket protocols over the simulated venue's matching engine."""
