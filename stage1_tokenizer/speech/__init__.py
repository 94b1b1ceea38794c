"""Speech: its data, networks, losses and tokenizer."""
