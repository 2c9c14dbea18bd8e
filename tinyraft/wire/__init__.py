"""Generated from `protos/`, committed, never edited."""
