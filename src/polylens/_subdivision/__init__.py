"""Cells through the gates of a network: the engine, its tasks, and where its cells go."""
