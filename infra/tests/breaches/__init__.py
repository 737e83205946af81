"""One breach for each policy, or some: what is rendered, with one object broken in memory."""

from breaches import argocd, databases, environments, order, pods, scaling, secrets, wiring
from breaches.registry import BREACHES, Breach

__all__ = ["BREACHES", "Breach", "argocd", "databases", "environments", "order", "pods", "scaling", "secrets", "wiring"]
