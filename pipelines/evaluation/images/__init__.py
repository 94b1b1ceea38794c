"""ImageDataset: drawing, keeping and measuring them."""
