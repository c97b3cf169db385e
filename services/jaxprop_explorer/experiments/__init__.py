"""What a page works on: a problem, a network and θ, all that may be done to them, and how they look at one moment."""
