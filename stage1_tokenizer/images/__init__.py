"""Images: their data, networks, losses and tokenizer."""
