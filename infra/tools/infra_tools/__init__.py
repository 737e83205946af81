"""Builds and finds the real tools that the tests of infra/ start: Pulumi, its Kubernetes provider, and an API server.

Only the tests need them. It uses nothing outside the standard library, so that any Python from 3.11 on runs it.
"""
