"""A bundled model with bundled data, compiled and scored from start to end."""
