"""What the vectors tell of single images: how far it lies from others, what it adds, and its cluster."""
