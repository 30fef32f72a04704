"""Data sets of recordings, cut into windows."""
