"""Generates gitops/ and prepares clusters for dispatchd."""
