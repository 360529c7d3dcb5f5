"""Addresses for Kubernetes Services of type LoadBalancer, and the means to reach them."""
