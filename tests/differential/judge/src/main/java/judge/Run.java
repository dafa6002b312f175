package judge;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.LongSerializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TestInputTopic;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.ValueAndTimestamp;
import org.apache.kafka.streams.state.WindowStore;

/** One topology in one TopologyTestDriver. */
final class Run implements AutoCloseable {
    private final JsonNode operators;
    private final List<Record<Windowed<String>, Object>> seen = new ArrayList<>();
    private TopologyTestDriver driver;
    private TestInputTopic<String, Long> input;

    Run(final JsonNode operators) {
        this.operators = operators;
        open();
    }

    private void open() {
        final StreamsBuilder builder = new StreamsBuilder();
        Operators.build(builder, operators, seen::add);
        final Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "judge");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "nowhere:9092");
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        // Else final results leave by the wall clock, at most once a second.
        settings.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_WINDOWED_AGGREGATION, 0L);
        driver = new TopologyTestDriver(builder.build(), settings);
        input = driver.createInputTopic("in", new StringSerializer(), new LongSerializer());
    }

    /** Gives a record [key, value, timestamp] to the topology and returns what it sent for it. */
    ArrayNode pipe(final JsonNode record) {
        final String key = record.get(0).isNull() ? null : record.get(0).asText();
        final Long value = record.get(1).isNull() ? null : record.get(1).asLong();
        seen.clear();
        input.pipeInput(key, value, record.get(2).asLong());
        final ArrayNode sent = Judge.JSON.createArrayNode();
        for (final Record<Windowed<String>, Object> output : seen) {
            sent.addArray()
                .add(output.key().key())
                .add(output.key().window().start())
                .add(output.key().window().end())
                .addPOJO(output.value())
                .add(output.timestamp());
        }
        return sent;
    }

    /** Records that were dropped so far, each window of a record that was too late for it counted. */
    double dropped() {
        return driver.metrics().values().stream()
            .filter(metric -> metric.metricName().name().equals("dropped-records-total"))
            .mapToDouble(metric -> (Double) metric.metricValue())
            .sum();
    }

    /** Starts anew with the contents of the windows' stores, as after a restore from the changelog. */
    ArrayNode restart() {
        final Map<String, List<KeyValue<Windowed<String>, Object>>> kept = new HashMap<>();
        driver.getAllStateStores().keySet().forEach(name -> kept.put(name, contents(name)));
        close();
        open();
        kept.forEach((name, rows) -> rows.forEach(row -> put(name, row)));
        return Judge.JSON.createArrayNode();
    }

    private List<KeyValue<Windowed<String>, Object>> contents(final String store) {
        final List<KeyValue<Windowed<String>, Object>> rows = new ArrayList<>();
        final SessionStore<String, Object> sessions = driver.getSessionStore(store);
        if (sessions != null) {
            try (KeyValueIterator<Windowed<String>, Object> all = sessions.fetch(null, null)) {
                all.forEachRemaining(rows::add);
            }
        } else {
            final WindowStore<String, ValueAndTimestamp<Object>> windows = driver.getTimestampedWindowStore(store);
            try (KeyValueIterator<Windowed<String>, ValueAndTimestamp<Object>> all = windows.all()) {
                all.forEachRemaining(row -> rows.add(KeyValue.pair(row.key, row.value)));
            }
        }
        return rows;
    }

    @SuppressWarnings("unchecked")
    private void put(final String store, final KeyValue<Windowed<String>, Object> row) {
        final SessionStore<String, Object> sessions = driver.getSessionStore(store);
        if (sessions != null) {
            sessions.put(row.key, row.value);
        } else {
            final WindowStore<String, ValueAndTimestamp<Object>> windows = driver.getTimestampedWindowStore(store);
            windows.put(row.key.key(), (ValueAndTimestamp<Object>) row.value, row.key.window().start());
        }
    }

    @Override
    public void close() {
        driver.close();
    }
}
