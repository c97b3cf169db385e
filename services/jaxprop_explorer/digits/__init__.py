"""The digits of the explorer: from strokes to pictures, the network that reads them, and how it was trained."""
