"""An Apache Kafka in memory: broker, clients, groups and transactions."""
