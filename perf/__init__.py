"""Measurements and drills on real installations; what they find goes to `evidence/`."""
