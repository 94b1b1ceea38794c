"""SpeechDataset: drawing, keeping and measuring them."""
