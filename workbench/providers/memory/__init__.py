"""Memory banks: providers of the API ``memory``."""
