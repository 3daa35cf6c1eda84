"""Studies: one folder per chapter, which no other chapter imports."""
