import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Kafka's own client at a minisr cluster: see scripts/interop/run. */
public class Interop {
    static final String TOPIC = "interop-java";
    static final int PARTITIONS = 3;
    static final int RECORDS = 300; // for each codec
    static final int PATIENCE_S = 20;

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> common = Map.of("bootstrap.servers", arguments[0]);
        try (Admin admin = Admin.create(common)) {
            NewTopic topic = new NewTopic(TOPIC, PARTITIONS, (short) 3).configs(Map.of("min.insync.replicas", "2"));
            admin.createTopics(List.of(topic)).all().get(PATIENCE_S, TimeUnit.SECONDS);
            require(admin.describeCluster().nodes().get(PATIENCE_S, TimeUnit.SECONDS).size() == 3, "three brokers");
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, TOPIC);
            String minIsr = admin.describeConfigs(List.of(resource)).all().get(PATIENCE_S, TimeUnit.SECONDS)
                .get(resource).get("min.insync.replicas").value();
            require(minIsr.equals("2"), "the topic's setting: " + minIsr);
            try {
                NewTopic tooMany = new NewTopic("too-many", 1, (short) 9);
                admin.createTopics(List.of(tooMany)).all().get(PATIENCE_S, TimeUnit.SECONDS);
                require(false, "nine copies on three brokers");
            } catch (ExecutionException refused) {
                require(refused.getCause() instanceof InvalidReplicationFactorException, "" + refused);
            }
            Set<String> written = new HashSet<>();
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                write(common, codec, written);
            }
            read(common, written);
            TopicPartition first = new TopicPartition(TOPIC, 0);
            admin.listOffsets(Map.of(first, OffsetSpec.maxTimestamp())).all().get(PATIENCE_S, TimeUnit.SECONDS);
            admin.describeMetadataQuorum().quorumInfo().get(PATIENCE_S, TimeUnit.SECONDS);
            admin.deleteTopics(List.of(TOPIC)).all().get(PATIENCE_S, TimeUnit.SECONDS);
        }
    }

    static void write(Map<String, Object> common, String codec, Set<String> written) throws Exception {
        Map<String, Object> settings = new java.util.HashMap<>(common);
        settings.putAll(Map.of("acks", "all", "enable.idempotence", true, "compression.type", codec));
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = 0; n < RECORDS; n++) {
                String value = codec + "-" + n + "-" + "x".repeat(50);
                sent.add(producer.send(new ProducerRecord<>(TOPIC, n % PARTITIONS, "" + n, value)));
                written.add(value);
            }
            for (Future<RecordMetadata> record : sent) {
                record.get(PATIENCE_S, TimeUnit.SECONDS);
            }
        }
    }

    static void read(Map<String, Object> common, Set<String> written) {
        try (var consumer = new KafkaConsumer<>(common, new StringDeserializer(), new StringDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (int index = 0; index < PARTITIONS; index++) {
                partitions.add(new TopicPartition(TOPIC, index));
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            List<String> values = new ArrayList<>();
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_S);
            while (values.size() < written.size() && System.nanoTime() < deadline) {
                consumer.poll(Duration.ofSeconds(1)).forEach(record -> values.add(record.value()));
            }
            require(values.size() == written.size() && written.equals(new HashSet<>(values)), values.size() + " read");
            long end = consumer.endOffsets(partitions).values().stream().mapToLong(Long::longValue).sum();
            require(end == written.size(), "the ends add up to " + end);
            require(consumer.offsetsForTimes(Map.of(partitions.get(0), 0L)).get(partitions.get(0)).offset() == 0, "times");
        }
    }

    static void require(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException(what);
        }
    }
}
