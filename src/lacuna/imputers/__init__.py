"""Imputers: each fills the holes of incomplete images."""
