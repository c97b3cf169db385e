"""HTTP/1.1: connections and their limits, who may ask, and one answer for one request."""
