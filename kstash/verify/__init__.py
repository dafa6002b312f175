"""An independent check of what an application left in Kafka: `kstash verify`.

Written from `wire-format.md` and the reader rule alone; nothing here is shared with the code
that writes, so that an error in one does not hide itself in the other.
"""
