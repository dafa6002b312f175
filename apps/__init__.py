"""Applications that come with kstash: word count, keyword count, log count and the demo."""
