"""One module per finding: each turns per-document sums and weights into tidy tables."""
