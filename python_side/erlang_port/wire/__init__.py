"""Frames in and out of the port."""
