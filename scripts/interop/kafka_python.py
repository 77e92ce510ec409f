"""kafka-python at a minisr cluster: see scripts/interop/run."""

import sys

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, NewTopic

TOPIC = "interop-kafka-python"
PARTITIONS = 3
RECORDS = 300  # for each codec
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


def main(bootstrap):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 3, topic_configs={"min.insync.replicas": "2"})])
    assert TOPIC in admin.list_topics()
    assert len(admin.describe_cluster()["brokers"]) == 3
    described = admin.describe_configs([ConfigResource("TOPIC", TOPIC)])
    assert "min.insync.replicas" in str(described), described

    written = set()
    for codec in CODECS:
        producer = KafkaProducer(
            bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, compression_type=codec, linger_ms=5
        )
        values = [f"{codec}-{n}-{'x' * 50}".encode() for n in range(RECORDS)]
        sent = [producer.send(TOPIC, value, partition=n % PARTITIONS) for n, value in enumerate(values)]
        for record in sent:
            record.get(timeout=20)
        producer.close()
        written.update(values)

    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, consumer_timeout_ms=10_000)
    partitions = [TopicPartition(TOPIC, index) for index in range(PARTITIONS)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    read = []
    for record in consumer:
        read.append(record.value)
        if len(read) == len(written):
            break
    assert len(read) == len(written) and set(read) == written, (len(read), len(written))
    assert sum(consumer.end_offsets(partitions).values()) == len(written)
    assert sum(consumer.beginning_offsets(partitions).values()) == 0
    assert consumer.offsets_for_times({partitions[0]: 0})[partitions[0]].offset == 0
    consumer.close()
    admin.delete_topics([TOPIC])
    admin.close()


if __name__ == "__main__":
    main(sys.argv[1])
