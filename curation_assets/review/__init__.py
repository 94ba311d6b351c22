"""What people are asked of images, what they answer, and how far what nobody looked at can be trusted."""
