"""What finished runs are good for."""
