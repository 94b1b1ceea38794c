"""ImageDataset: their data, networks, losses and tokenizer."""
