"""Walks through inputs with one output."""
