"""One folder a chapter, which no other chapter imports."""
