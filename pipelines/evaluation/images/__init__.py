"""What is particular to images in scoring; speech/ has the same for speech."""
