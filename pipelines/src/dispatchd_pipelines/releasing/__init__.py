"""Versions of dispatchd: what a release promises, the commit that makes one, and its notes.

`python -m dispatchd_pipelines.releasing prepare 0.1.0` makes the commit of a release, `notes --tag v0.1.0` prints what
is told about it, and `unedited` checks that nobody else wrote what the last one promised. Images are built and
published elsewhere, from the tag. docs/release.md has the whole way.
"""
