"""Text data: windows of token ids from documents, and frequency bands from token counts."""
