package kstash;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.processor.StateStore;

/**
 * The word counts of benchmarks/windows_app.py and of kstash.apps.word_count on Kafka Streams:
 * exactly_once_v2, RocksDB with changelogs, no cache, so that each word makes its outputs here too.
 *
 * <p>Counts BOOTSTRAP APPLICATION INPUT OUTPUT STATE_DIR LINGER_MS word|tumbling|hopping|session
 *
 * <p>It prints READY and runs until SIGTERM.
 */
public final class Counts {
    private static final Duration SIZE = Duration.ofSeconds(10);
    private static final Duration GAP = Duration.ofMillis(500);
    private static final Duration GRACE = Duration.ofMinutes(1);
    private static final Serde<String> TEXT = Serdes.String();
    private static final Serde<byte[]> RAW = Serdes.ByteArray();
    private static final Serde<Windowed<String>> IN_TIME =
            WindowedSerdes.timeWindowedSerdeFrom(String.class, SIZE.toMillis());
    private static final Serde<Windowed<String>> IN_SESSION =
            WindowedSerdes.sessionWindowedSerdeFrom(String.class);

    private Counts() {}

    static List<String> words(String sentence) {
        List<String> words = new ArrayList<>(16);
        int from = 0;
        while (from < sentence.length()) {
            int to = sentence.indexOf(' ', from);
            to = to < 0 ? sentence.length() : to;
            if (to > from) {
                words.add(sentence.substring(from, to));
            }
            from = to + 1;
        }
        return words;
    }

    /** A session that became part of another one is taken back by a null. */
    static byte[] text(Long count) {
        return count == null ? null : Long.toString(count).getBytes(StandardCharsets.US_ASCII);
    }

    static Topology topology(String input, String output, String kind) {
        StreamsBuilder builder = new StreamsBuilder();
        KGroupedStream<String, String> words =
                builder.stream(input, Consumed.with(RAW, TEXT))
                        .flatMapValues(Counts::words)
                        .groupBy((key, word) -> word, Grouped.with("words", TEXT, TEXT));
        TimeWindows tumbling = TimeWindows.ofSizeAndGrace(SIZE, GRACE);
        TimeWindows hopping = tumbling.advanceBy(SIZE.dividedBy(2));
        SessionWindows session = SessionWindows.ofInactivityGapAndGrace(GAP, GRACE);
        switch (kind) {
            case "word" -> send(words.count(counts()), TEXT, output);
            case "tumbling" -> send(words.windowedBy(tumbling).count(counts()), IN_TIME, output);
            case "hopping" -> send(words.windowedBy(hopping).count(counts()), IN_TIME, output);
            case "session" -> send(words.windowedBy(session).count(counts()), IN_SESSION, output);
            default -> throw new IllegalArgumentException("no such count: " + kind);
        }
        return builder.build();
    }

    private static <S extends StateStore> Materialized<String, Long, S> counts() {
        return Materialized.<String, Long, S>as("counts")
                .withKeySerde(TEXT)
                .withValueSerde(Serdes.Long())
                .withCachingDisabled();
    }

    private static <K> void send(KTable<K, Long> counts, Serde<K> keys, String output) {
        counts.toStream().mapValues(Counts::text).to(output, Produced.with(keys, RAW));
    }

    private static Properties settings(
            String bootstrap, String application, String stateDir, String lingerMs) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, stateDir);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0L);
        settings.put(
                StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), lingerMs);
        return settings;
    }

    public static void main(String[] args) throws Exception {
        Properties settings = settings(args[0], args[1], args[4], args[5]);
        KafkaStreams streams = new KafkaStreams(topology(args[2], args[3], args[6]), settings);
        CountDownLatch stop = new CountDownLatch(1);
        AtomicInteger code = new AtomicInteger();
        streams.setStateListener(
                (now, before) -> {
                    if (now == KafkaStreams.State.RUNNING) {
                        System.out.println("READY");
                        System.out.flush();
                    } else if (now == KafkaStreams.State.ERROR) {
                        code.set(1);
                        stop.countDown();
                    }
                });
        streams.setUncaughtExceptionHandler(
                error -> {
                    error.printStackTrace();
                    return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
                });
        sun.misc.Signal.handle(new sun.misc.Signal("TERM"), signal -> stop.countDown());
        streams.start();
        stop.await();
        streams.close(Duration.ofSeconds(15));
        System.exit(code.get());
    }
}
