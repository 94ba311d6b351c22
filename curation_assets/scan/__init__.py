"""What changed on disk → records → staged files → one commit a file: the job behind ``crop_images_directory``."""
