"""What a policy version says. Pure: a document in, a version or all of its faults out."""
