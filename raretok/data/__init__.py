"""Text: documents become windows of token ids, and token counts become frequency bands."""
