"""What crosses from Python to the page: runs, chats, comparisons and waterfalls as JSON."""
