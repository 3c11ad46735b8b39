"""Generic statistical methods, which do not depend on a language model."""
