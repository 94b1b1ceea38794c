"""What is particular to speech in scoring; images/ has the same for images."""
