"""Pictures: drawing, keeping and measuring them."""
