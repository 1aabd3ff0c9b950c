"""A policy version and the evidence give a determination. Pure, total, deterministic."""
