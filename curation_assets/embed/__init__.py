"""Pending rows → encoder → staged files → commits: the job behind ``crop_images_directory_embeddings``."""
