"""The API: one router a resource. A route says who may, what comes in, what goes out."""
