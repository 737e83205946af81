"""What stands in each folder of gitops/."""
