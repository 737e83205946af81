"""Profiles of roles that run as child processes."""
