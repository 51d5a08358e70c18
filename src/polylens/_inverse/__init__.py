"""Undoing a network step by step, and the shortest input that is left."""
