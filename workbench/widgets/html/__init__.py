"""Static twins: the content of each widget as plain HTML, for pages without a kernel."""
