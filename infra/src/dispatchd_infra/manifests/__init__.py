"""Pure functions from settings to Kubernetes objects, a file for each concern."""
