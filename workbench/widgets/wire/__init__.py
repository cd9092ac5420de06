"""Wire forms of runs, chats, comparisons and waterfalls: the JSON that Python sends to the page."""
