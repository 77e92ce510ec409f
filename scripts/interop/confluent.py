"""confluent-kafka (librdkafka) at a minisr cluster: see scripts/interop/run."""

import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

TOPIC = "interop-librdkafka"
PARTITIONS = 3
RECORDS = 300  # for each codec
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
PATIENCE_S = 20


def main(bootstrap):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    topic = NewTopic(TOPIC, PARTITIONS, 3, config={"min.insync.replicas": "2"})
    admin.create_topics([topic])[TOPIC].result(PATIENCE_S)
    resource = ConfigResource(ResourceType.TOPIC, TOPIC)
    assert admin.describe_configs([resource])[resource].result(PATIENCE_S)["min.insync.replicas"].value == "2"
    try:
        admin.create_topics([NewTopic("too-many", 1, 9)])["too-many"].result(PATIENCE_S)
        raise AssertionError("nine copies on three brokers")
    except KafkaException as refused:
        assert refused.args[0].code() == KafkaError.INVALID_REPLICATION_FACTOR, refused

    written = set()
    for codec in CODECS:
        failed = []
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": codec,
                "linger.ms": 5,
            }
        )
        for n in range(RECORDS):
            value = f"{codec}-{n}-{'x' * 50}".encode()
            producer.produce(
                TOPIC, value, partition=n % PARTITIONS, on_delivery=lambda error, _: error and failed.append(error)
            )
            written.add(value)
        assert producer.flush(PATIENCE_S) == 0 and not failed, failed[:1]

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "check.crcs": True})
    consumer.assign([TopicPartition(TOPIC, index, 0) for index in range(PARTITIONS)])
    read = []
    deadline = time.monotonic() + PATIENCE_S
    while len(read) < len(written) and time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is not None:
            assert message.error() is None, message.error()
            read.append(message.value())
    assert len(read) == len(written) and set(read) == written, (len(read), len(written))
    per_partition = len(written) // PARTITIONS
    first = TopicPartition(TOPIC, 0, 0)
    assert consumer.get_watermark_offsets(first, timeout=PATIENCE_S) == (0, per_partition)
    assert consumer.offsets_for_times([first], timeout=PATIENCE_S)[0].offset == 0
    consumer.close()
    admin.delete_topics([TOPIC])[TOPIC].result(PATIENCE_S)


if __name__ == "__main__":
    main(sys.argv[1])
