"""Whole daemons under seeded faults in virtual time: what happens (`plan`), one seed played (`world`), what must hold
(`invariants`), and many seeds over processes (`runner`)."""
