"""For other programs: read the immediate sinks of kstash applications exactly once, at once.

    from kstash.readers import ImmediateReader

    settings = {"bootstrap.servers": "localhost:9092", "group.id": "my-program"}
    with ImmediateReader(settings, ["word-counts"]) as reader:
        while True:
            message = reader.poll(1.0)
            if message is not None and message.error() is None:
                print(message.key(), message.value())
                reader.commit()

`docs/readers.md` has the same as a recipe for any Kafka client, and says who needs it: a plain
`read_committed` consumer sees each output exactly once as well, one commit interval later.
"""

from kstash.errors import BookmarkTooLargeError
from kstash.kafka.bookmarks import Bookmark
from kstash.kafka.immediate import ImmediateReader

__all__ = ["Bookmark", "BookmarkTooLargeError", "ImmediateReader"]
