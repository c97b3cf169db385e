"""What the library found, as the page shows it: cards that multiply, nudges, curves, examples, pictures and files."""
