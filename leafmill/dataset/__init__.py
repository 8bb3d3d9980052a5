"""The gates over a dataset file that is there already: score, dedup, decontaminate, select, calibrate."""
