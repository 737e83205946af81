"""The commands that move a release from one environment to the next, and production from one region to the other."""
