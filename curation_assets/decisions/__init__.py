"""What people said of images: a table that only grows, what of it counts now, and files that carry it elsewhere."""
