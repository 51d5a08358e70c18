"""Inputs that activate a unit: programs, climbs and bounds."""
