"""Every quantizer through the same two stages."""
