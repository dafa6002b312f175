"""Speed, latency and recovery of kstash, measured on a real Kafka; see README.md."""
