"""Static twins: what each widget shows, as plain HTML for pages without a kernel."""
