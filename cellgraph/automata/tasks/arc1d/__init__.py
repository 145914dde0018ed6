"""The 1-D ARC: rows of colours."""
