"""Priors of images: penalties that need nothing but the image itself."""
