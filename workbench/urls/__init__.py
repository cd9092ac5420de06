"""Reading of URLs that requests name, under rules that a run config sets: nothing but ``data:`` by default."""
