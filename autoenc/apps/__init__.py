"""Applications of finished runs."""
