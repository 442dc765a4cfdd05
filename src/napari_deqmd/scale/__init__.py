"""Memory planning."""
